# SPDX-License-Identifier: Apache-2.0
"""A Master that certifies overlay addresses outside the realm's ranges: what would they open on a host?"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_network

import pytest

from tests.keyd.net import Net, inner_packet
from veilnet.enrolment_token import EnrolmentTokenText
from veilnet.keyd.core import NetworkChoice
from veilnet.keyd.enrol import _info
from veilnet.protocol.documents import Certificate

OVERLAY = (ip_network("100.64.0.0/24"), ip_network("fd00::/64"))
TOKEN = EnrolmentTokenText(url="https://m.test", realm=32 * "0", ca=64 * "0", tls=None, id="tok_1", secret="s")  # noqa: S106
FOREIGN = ["192.168.7.1", "127.0.0.1", "8.8.8.8", "100.64.1.1"]


def realm(**certified: dict[str, IPv4Address | IPv6Address]) -> Net:
    """a ── b, up; then the Master signs other addresses, by node."""
    net = Net({"a": "c", "b": "c"}, [("a", "b")])
    for node in net.nodes.values():
        node.choice = NetworkChoice(False, OVERLAY)
        node.boot(net)
    net.send("a", "b", 1)
    assert net.run(5, lambda: net.received("b") == [1])
    for name, changes in certified.items():
        view = net.nodes[name].view = replace(net.nodes[name].view, **changes)  # type: ignore[arg-type]
        net.directory = replace(net.directory, nodes={**net.directory.nodes, view.node_id: view})
    for node in net.nodes.values():
        net.act(node, node.engine.set_directory(net.directory, net.now))
    return net


def pass_on(net: Net, packet: bytes) -> None:
    """a sends over its stream to b, whatever a's own tables say."""
    node = net.nodes["a"]
    (stream,) = node.engine.streams.by_index
    number = node.plane.routes()[ip_network(f"{net.nodes['b'].view.ipv6}/128")][0]
    for address in (IPv4Address(packet[16:20]),):
        node.plane.put_route(ip_network(address), peer=number, stream=stream)
    net.output(node, node.plane.send_inner(packet))
    net.run(0.5)


@pytest.mark.parametrize("address", FOREIGN)
def test_no_address_of_this_host_is_opened_by_a_certificate_of_ours(address: str) -> None:
    net = realm(b={"ipv4": IPv4Address(address)})
    pass_on(net, inner_packet(net.nodes["a"].view.ipv4, IPv4Address(address), 2))
    assert net.received("b") == [1]
    assert net.nodes["b"].plane.reasons()["DROP_INNER_NOT_OURS"] == 1


@pytest.mark.parametrize("address", FOREIGN)
def test_nobody_speaks_in_the_name_of_others_by_a_certificate_of_its_own(address: str) -> None:
    net = realm(a={"ipv4": IPv4Address(address)})
    pass_on(net, inner_packet(IPv4Address(address), net.nodes["b"].view.ipv4, 2))
    assert net.received("b") == [1]
    assert net.nodes["b"].plane.reasons()["DROP_INNER_SRC"] == 1


@pytest.mark.parametrize("address", FOREIGN)
def test_nothing_is_led_away_by_a_certificate_of_another(address: str) -> None:
    net = realm(b={"ipv4": IPv4Address(address), "ipv6": IPv6Address("2001:db8::1")})
    assert {str(network) for network in net.nodes["a"].plane.routes()} == {"100.64.0.1/32", "fd00::1/128"}


def test_another_address_of_the_realm_is_taken() -> None:
    net = realm(b={"ipv4": IPv4Address("100.64.0.77")})
    net.send("a", "b", 2)
    assert net.run(5, lambda: net.received("b") == [1, 2])


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "fits"),
    [
        ("10.90.0.7/16", "fd12::7/64", True),
        ("100.64.0.7/10", "fd12::7/48", True),
        ("10.90.0.7/0", "fd12::7/64", False),
        ("10.90.0.7/7", "fd12::7/64", False),
        ("10.90.0.7/29", "fd12::7/64", False),
        ("127.0.0.7/16", "fd12::7/64", False),
        ("224.0.0.7/8", "fd12::7/64", False),
        ("10.90.0.7/16", "fd12::7/47", False),
        ("10.90.0.7/16", "2001:db8::7/64", False),
        ("10.90.0.7/16", "::7/0", False),
        ("10.90.0.7/16", "fe80::7/64", False),
    ],
)
def test_a_host_joins_no_realm_whose_range_would_take_its_other_traffic(ipv4: str, ipv6: str, fits: bool) -> None:
    four, six = IPv4Interface(ipv4), IPv6Interface(ipv6)
    signed = Certificate(bytes(16), bytes(16), b"", "a", frozenset({"conflux"}), four.ip, six.ip, frozenset(), 1, 0, 1)
    answer = {"id": "nod_1", "ipv4_range": str(four.network), "ipv6_prefix": str(six.network)}
    if fits:
        info = _info(TOKEN, signed, answer)
        assert (info.ipv4, info.ipv6) == (four, six)
    else:
        with pytest.raises(ValueError, match="range"):
            _info(TOKEN, signed, answer)
