# SPDX-License-Identifier: Apache-2.0
"""Routes of accepted networks, asked of the kernel itself in a namespace of the test's own."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_network
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP, UDP

from tests.loader.conftest import own_netns
from veilnet.loader import routing, veth
from veilnet.loader.maps import Network

pytestmark = pytest.mark.root
INSTANCE = "routetest"


def nets(*texts: str) -> list[Network]:
    return [ip_network(text) for text in texts]


def ip_words(*commands: str) -> None:
    for command in commands:
        subprocess.run(["/sbin/ip", *command.split()], check=True)


@pytest.fixture
def host() -> Iterator[None]:
    """n0: underlay 198.51.100.2/24 with the default route; n2: a LAN, 192.168.1.2/24; veil0 with overlay addresses."""
    with own_netns():
        ip_words(
            "link set lo up",
            "link add n0 type veth peer name n1",
            "link add n2 type veth peer name n3",
            *(f"link set n{i} up" for i in range(4)),
            "addr add 198.51.100.2/24 dev n0",
            "addr add 192.168.1.2/24 dev n2",
            "-6 addr add 2001:db8:ff::2/64 dev n0 nodad",
            "route add default via 198.51.100.1",
            "-6 route add default via 2001:db8:ff::1",
        )
        addresses = (IPv4Interface("10.90.0.2/16"), IPv6Interface("fd00:90::2/64"))
        veth.ensure_pair("veil0", INSTANCE, mtu=1380, addresses=addresses)
        yield


def way(target: str, *, source: str = "", iif: str = "", mark: int = 0) -> str:
    """Device by which the kernel sends to `target`."""
    words = ["/sbin/ip", "route", "get", target]
    words += ["from", source] if source else []
    words += ["iif", iif] if iif else []
    words += ["mark", str(mark)] if mark else []
    answer = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    return answer[answer.index("dev") + 1]


def everything() -> str:
    """The host's whole routing, as text."""
    parts = [["rule"], ["route", "show", "table", "all"], ["-6", "rule"], ["-6", "route", "show", "table", "all"]]
    return "".join(
        subprocess.run(["/sbin/ip", *part], check=True, capture_output=True, text=True).stdout for part in parts
    )


def accept(*texts: str) -> bool:
    return routing.ensure(INSTANCE, "veil0", nets(*texts))


def test_accepted_networks_lead_into_veil0_and_nothing_else(host: None) -> None:
    assert accept("172.20.0.0/16", "2001:db8:7::/48")
    assert [way(t) for t in ("172.20.1.1", "172.21.1.1", "10.90.0.9", "192.168.1.9")] == ["veil0", "n0", "veil0", "n2"]
    assert [way(t) for t in ("2001:db8:7::9", "2001:db8:8::9")] == ["veil0", "n0"]


def test_again_is_nothing_to_do(host: None) -> None:
    accept("172.20.0.0/16", "2001:db8:7::/48")
    before = everything()
    assert not accept("172.20.0.0/16", "2001:db8:7::/48")
    assert everything() == before


def test_the_default_route(host: None) -> None:
    """Everything is accepted; what carries the overlay, and what the host says in its own name, goes the old way."""
    accept("0.0.0.0/0", "::/0")
    assert way("203.0.113.9") == way("2001:db8:99::1") == "veil0"
    assert way("192.168.1.9") == "n2"
    assert way("198.51.100.9") == "n0"  # neighbours in the underlay
    assert way("203.0.113.9", mark=routing.MARK) == way("2001:db8:99::1", mark=routing.MARK) == "n0"
    assert way("203.0.113.9", source="198.51.100.2") == "n0"
    assert way("203.0.113.9", source="203.0.113.7", iif="veil0p") == "n0"


def test_a_relay_s_address_in_an_accepted_network(host: None) -> None:
    """The handshake's packets and, by iif, the data plane's look-ups go to the relay; an application's do not."""
    accept("203.0.113.0/24")
    assert way("203.0.113.9") == "veil0"
    assert way("203.0.113.9", mark=routing.MARK) == "n0"


def test_without_another_way_nothing_marked_enters_the_overlay(host: None) -> None:
    accept("0.0.0.0/0")
    ip_words("route del default")
    with pytest.raises(subprocess.CalledProcessError):
        way("203.0.113.9", mark=routing.MARK)
    assert way("203.0.113.9") == "veil0"


def test_the_host_s_own_routes_win(host: None) -> None:
    ip_words("route add 172.20.0.0/16 via 192.168.1.1")
    accept("172.20.7.0/24", "192.168.0.0/16", "192.168.1.0/24")
    assert [way(t) for t in ("172.20.7.1", "192.168.1.7", "192.168.2.7")] == ["n2", "n2", "veil0"]


def test_withdrawn(host: None) -> None:
    accept("172.20.0.0/16", "172.22.0.0/16")
    assert accept("172.22.0.0/16")
    assert (way("172.20.1.1"), way("172.22.1.1")) == ("n0", "veil0")


@pytest.mark.parametrize("how", ["ensure", "remove"])
def test_nothing_is_left(host: None, how: str) -> None:
    before = everything()
    accept("172.20.0.0/16", "2001:db8:7::/48", "0.0.0.0/0")
    assert everything() != before
    assert accept() if how == "ensure" else routing.remove(INSTANCE)
    assert everything() == before
    assert not routing.remove(INSTANCE)


def test_what_others_have_taken_away_comes_back(host: None) -> None:
    accept("172.20.0.0/16")
    ip_words("link set veil0 down", "link set veil0 up")
    assert way("172.20.1.1") == "n0"
    assert accept("172.20.0.0/16")
    assert way("172.20.1.1") == "veil0"
    ip_words(f"rule del pref {routing.number(INSTANCE) + 3}")
    assert accept("172.20.0.0/16")
    assert way("172.20.1.1") == "veil0"


def test_what_the_host_says_in_its_other_names(host: None) -> None:
    """Replies of its services elsewhere; also of an address that came later."""
    accept("0.0.0.0/0", "::/0")
    for source in ("198.51.100.2", "192.168.1.2"):
        assert way("203.0.113.9", source=source) == "n0"
    assert way("2001:db8:99::1", source="2001:db8:ff::2") == "n0"
    assert way("203.0.113.9", source="10.90.0.2") == way("2001:db8:99::1", source="fd00:90::2") == "veil0"
    ip_words("addr add 198.51.100.3/24 dev n0")
    assert way("203.0.113.9", source="198.51.100.3") == "veil0"
    assert accept("0.0.0.0/0", "::/0")
    assert way("203.0.113.9", source="198.51.100.3") == "n0"
    ip_words("addr del 198.51.100.3/24 dev n0")
    assert accept("0.0.0.0/0", "::/0")
    assert "198.51.100.3" not in everything()


def test_nobody_sends_in_the_name_of_the_host_s_own_neighbours(host: None) -> None:
    """A gateway of 192.168.0.0/16, of which this host has 192.168.1.0/24 by another device."""
    setting = Path("/proc/sys/net/ipv4/conf/veil0/rp_filter")
    accept("192.168.0.0/16")
    assert setting.read_text() == "1\n"
    assert arrives("192.168.2.9")
    assert not arrives("192.168.1.9")
    accept()
    assert setting.read_text() == "2\n"


def arrives(source: str) -> bool:
    """Whether a UDP datagram from `source` that comes in by veil0 reaches a socket."""
    with (
        IPRoute() as ip,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taker,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire,
    ):
        taker.bind(("10.90.0.2", 7777))
        taker.settimeout(0.3)
        wire.bind(("veil0p", 0))
        (link,) = ip.get_links(ifname="veil0")
        mac = bytes.fromhex(link.get_attr("IFLA_ADDRESS").replace(":", ""))
        wire.send(
            mac + bytes(6) + b"\x08\0" + bytes(IP(src=source, dst="10.90.0.2") / UDP(sport=1, dport=7777) / b"hello")
        )
        try:
            return taker.recv(100) == b"hello"
        except TimeoutError:
            return False


def test_two_instances_keep_apart(host: None) -> None:
    accept("172.20.0.0/16")
    veth.ensure_pair("veil9", "other", mtu=1380, addresses=(IPv4Interface("10.91.0.2/16"),))
    routing.ensure("other", "veil9", nets("172.21.0.0/16"))
    assert routing.number("other") != routing.number(INSTANCE)
    assert (way("172.20.1.1"), way("172.21.1.1")) == ("veil0", "veil9")
    routing.remove("other")
    assert (way("172.20.1.1"), way("172.21.1.1")) == ("veil0", "n0")


def test_without_the_device_nothing_happens(host: None) -> None:
    before = everything()
    assert not routing.ensure(INSTANCE, "veil7", nets("172.20.0.0/16"))
    assert everything() == before


# ---- gateways ---------------------------------------------------------------------------------------------------


def forward(*devices: str) -> None:
    for device in devices:
        Path(f"/proc/sys/net/ipv4/conf/{device}/forwarding").write_text("1")


def test_what_a_gateway_lacks(host: None) -> None:
    assert routing.missing_forwarding("veil0", nets("192.168.1.0/24")) == [
        "net.ipv4.conf.veil0.forwarding=1",
        "net.ipv4.conf.n2.forwarding=1",
    ]
    forward("veil0")
    assert routing.missing_forwarding("veil0", nets("192.168.1.0/24")) == ["net.ipv4.conf.n2.forwarding=1"]
    forward("n2")
    assert routing.missing_forwarding("veil0", nets("192.168.1.0/24")) == []
    assert routing.missing_forwarding("veil0", nets("0.0.0.0/0")) == ["net.ipv4.conf.n0.forwarding=1"]
    assert routing.missing_forwarding("veil0", nets("2001:db8:7::/48")) == ["net.ipv6.conf.all.forwarding=1"]


def test_a_network_of_the_host_itself_needs_no_forwarding(host: None) -> None:
    assert routing.missing_forwarding("veil0", nets("192.168.1.2/32")) == []


def test_a_network_without_a_route(host: None) -> None:
    ip_words("route del default")
    assert routing.missing_forwarding("veil0", nets("172.20.0.0/16")) == ["no route to 172.20.0.0/16"]


def test_a_device_with_a_dot_in_its_name(host: None) -> None:
    ip_words("link set n3 down", "link set n3 name n3.7", "link set n3.7 up", "addr add 172.23.0.1/24 dev n3.7")
    assert "net.ipv4.conf.n3.7.forwarding=1" in routing.missing_forwarding("veil0", nets("172.23.0.0/24"))
