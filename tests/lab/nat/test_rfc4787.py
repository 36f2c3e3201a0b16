# SPDX-License-Identifier: Apache-2.0
"""Mapping, filtering, ports, refresh and hairpinning against RFC 4787's definitions, with sockets."""

from __future__ import annotations

import itertools
import socket
from dataclasses import replace

import pytest

from tests.lab.nat.rig import SERVERS, Pair, age, arrives, comes_in, decided, waiting
from tests.patience import PATIENCE, wait_for
from veilnet.lab import nat
from veilnet.lab.nat import Dependence, NatKind, Ports
from veilnet.lab.nat.run import run

pytestmark = [pytest.mark.lab]

KINDS = [
    pytest.param(mapping, filtering, id=f"{mapping}-{filtering}")
    for mapping, filtering in itertools.product(Dependence, Dependence)
]
Endpoint = tuple[str, int]


def looks_at(dependence: Dependence, remote: Endpoint) -> object:
    """The part of a remote endpoint that decides, RFC 4787 sections 4.1 and 5."""
    parts = {
        Dependence.ENDPOINT_INDEPENDENT: (),
        Dependence.ADDRESS_DEPENDENT: remote[:1],
        Dependence.ADDRESS_AND_PORT_DEPENDENT: remote,
    }
    return parts[dependence]


def outsides(pair: Pair) -> dict[Endpoint, socket.socket]:
    """Two addresses with two ports each."""
    made = [pair.outside(address) for address in SERVERS for _ in range(2)]
    return {one.getsockname(): one for one in made}


@pytest.mark.parametrize("ports", Ports)
@pytest.mark.parametrize(("mapping", "filtering"), KINDS)
def test_flows_share_a_port_exactly_where_the_definition_says(
    pair: Pair, mapping: Dependence, filtering: Dependence, ports: Ports
) -> None:
    pair.apply(NatKind(mapping, filtering, ports))
    here, there = pair.inside(), outsides(pair)
    seen = {remote: arrives(one, here, remote) for remote, one in there.items()}
    assert {address for address, _ in seen.values()} == {pair.public}
    for one, other in itertools.combinations(there, 2):
        assert (seen[one] == seen[other]) == (looks_at(mapping, one) == looks_at(mapping, other))
    assert len(nat.mappings(pair.node)) == len({looks_at(mapping, remote) for remote in there})


@pytest.mark.parametrize(("mapping", "filtering"), KINDS)
def test_a_mapping_lets_in_exactly_whom_the_definition_says(
    pair: Pair, mapping: Dependence, filtering: Dependence
) -> None:
    pair.apply(NatKind(mapping, filtering))
    here, there = pair.inside(), outsides(pair)
    asked, *others = there
    public = arrives(there[asked], here, asked)
    for remote in others:
        there[remote].sendto(repr(remote).encode(), public)
    there[asked].sendto(repr(asked).encode(), public)
    there[asked].sendto(b"last", public)
    expected = [remote for remote in [*others, asked] if looks_at(filtering, remote) == looks_at(filtering, asked)]
    if filtering is Dependence.ENDPOINT_INDEPENDENT:
        expected = [*others, asked]
    got = []
    while (data := here.recv(100)) != b"last":
        got.append(data)
    assert got == [repr(remote).encode() for remote in expected]


def test_nobody_comes_in_without_a_mapping(pair: Pair) -> None:
    pair.apply(NatKind(filtering=Dependence.ENDPOINT_INDEPENDENT))
    here, there = pair.inside(5000), pair.outside()
    before = nat.statistics(pair.node).get("NAT_DROP_NO_MAPPING", 0)
    there.sendto(b"?", (pair.public, 5000))
    there.sendto(b"?", (pair.public, 5001))
    arrives(there, here, there.getsockname())
    assert waiting(here) == []
    assert nat.statistics(pair.node)["NAT_DROP_NO_MAPPING"] == before + 2


def test_the_inside_address_is_not_reached_from_outside(pair: Pair) -> None:
    pair.apply(nat.KINDS["full-cone"])
    here, there = pair.inside(5000), pair.outside()
    public = arrives(there, here, there.getsockname())
    run(pair.server, "ip", "route", "replace", "10.0.0.0/24", "via", pair.public)
    there.sendto(b"round the NAT", ("10.0.0.2", 5000))
    there.sendto(b"through the NAT", public)
    assert here.recv(100) == b"through the NAT"
    run(pair.server, "ip", "route", "del", "10.0.0.0/24")


# ---- ports, RFC 4787 section 4.2 ------------------------------------------------------------------------------------


def test_preserve_keeps_the_port_and_never_shares_it(pair: Pair) -> None:
    pair.apply(NatKind(ports=Ports.PRESERVE))
    there = pair.outside()
    first, second = pair.inside(5000), pair.rig.udp(pair.client, "10.0.0.2", 5001)
    rival = pair.rig.udp(pair.second, port=5000)
    assert arrives(there, first, there.getsockname()) == (pair.public, 5000)
    assert arrives(there, second, there.getsockname()) == (pair.public, 5001)
    assert arrives(there, rival, there.getsockname())[1] not in {5000, 5001}
    assert arrives(there, first, there.getsockname()) == (pair.public, 5000)


def test_sequential_ports_follow_each_other(pair: Pair) -> None:
    pair.apply(NatKind(ports=Ports.SEQUENTIAL, port_range=(2000, 2999)))
    there = pair.outside()
    seen = [arrives(there, pair.inside(), there.getsockname())[1] for _ in range(5)]
    assert [(port - 2000 - seen[0]) % 1000 for port in seen] == [(i - 2000) % 1000 for i in range(5)]


def test_random_ports_repeat_with_the_seed(pair: Pair) -> None:
    there = pair.outside()

    def ports(seed: int) -> list[int]:
        pair.apply(NatKind(ports=Ports.RANDOM, seed=seed))
        return [arrives(there, pair.inside(), there.getsockname())[1] for _ in range(5)]

    first = ports(1)
    assert first == ports(1)
    assert first != ports(2)
    assert len(set(first)) == 5


def test_without_a_free_port_a_new_flow_is_dropped_and_the_others_live(pair: Pair) -> None:
    pair.apply(NatKind(port_range=(2000, 2001)))
    there, flows = pair.outside(), [pair.inside() for _ in range(3)]
    seen = [arrives(there, one, there.getsockname()) for one in flows[:2]]
    before = nat.statistics(pair.node).get("NAT_DROP_NO_PORT", 0)
    flows[2].sendto(b"?", there.getsockname())
    assert [arrives(there, one, there.getsockname()) for one in flows[:2]] == seen
    assert nat.statistics(pair.node)["NAT_DROP_NO_PORT"] == before + 1
    assert {port for _, port in seen} == {2000, 2001}


# ---- lifetime, sections 4.3 and 5 -----------------------------------------------------------------------------------

TIMEOUT = 120.0  # RFC 4787's least; `age` stands for waiting


def test_outbound_packets_keep_a_mapping_and_inbound_ones_do_not(pair: Pair) -> None:
    kind = NatKind(filtering=Dependence.ENDPOINT_INDEPENDENT, udp_timeout=TIMEOUT)
    for inbound in (False, True):
        pair.apply(replace(kind, inbound_refresh=inbound))
        here, there = pair.inside(), pair.outside()
        public = arrives(there, here, there.getsockname())
        for _ in range(3):  # REQ-6: outbound refresh
            age(pair.node, TIMEOUT * 0.7)
            assert arrives(there, here, there.getsockname()) == public
        for _ in range(3):
            age(pair.node, TIMEOUT * 0.7)
            still = comes_in(pair.node, there, here, public)
        assert still == inbound
        age(pair.node, TIMEOUT * 1.1)
        assert not comes_in(pair.node, there, here, public)
        assert nat.mappings(pair.node) == []


def test_a_permission_ends_though_another_keeps_the_mapping(pair: Pair) -> None:
    pair.apply(NatKind(udp_timeout=TIMEOUT))
    here, first, second = pair.inside(), pair.outside(), pair.outside()
    public = arrives(first, here, first.getsockname())
    for _ in range(3):
        age(pair.node, TIMEOUT * 0.7)
        arrives(second, here, second.getsockname())
    assert comes_in(pair.node, second, here, public)
    assert not comes_in(pair.node, first, here, public)


def test_timeout_changes_while_it_runs(pair: Pair) -> None:
    pair.apply(NatKind())
    here, there = pair.inside(), pair.outside()
    public = arrives(there, here, there.getsockname())
    age(pair.node, 30)
    assert comes_in(pair.node, there, here, public)
    nat.set_timeout(pair.node, udp=15)
    assert not comes_in(pair.node, there, here, public)
    nat.set_timeout(pair.node, udp=300)
    assert comes_in(pair.node, there, here, public)


@pytest.mark.parametrize("ports", Ports)
def test_rebind_gives_every_flow_another_port(pair: Pair, ports: Ports) -> None:
    pair.apply(NatKind(filtering=Dependence.ENDPOINT_INDEPENDENT, ports=ports))
    there, flows = pair.outside(), [pair.inside() for _ in range(4)]
    old = [arrives(there, one, there.getsockname()) for one in flows]
    assert nat.rebind(pair.node) == 4
    assert nat.mappings(pair.node) == []
    assert not any(comes_in(pair.node, there, one, public) for one, public in zip(flows, old, strict=True))
    new = [arrives(there, one, there.getsockname()) for one in flows]
    assert len({*old, *new}) == 8
    assert all(comes_in(pair.node, there, one, public) for one, public in zip(flows, new, strict=True))


def test_a_reboot_empties_the_table(pair: Pair) -> None:
    pair.apply(NatKind())
    here, there = pair.inside(5000), pair.outside()
    arrives(there, here, there.getsockname())
    assert nat.rebind(pair.node, new_ports=False) == 1
    assert nat.mappings(pair.node) == []
    assert arrives(there, here, there.getsockname()) == (pair.public, 5000)


def test_the_table_says_what_is_mapped(pair: Pair) -> None:
    pair.apply(NatKind(Dependence.ADDRESS_DEPENDENT, ports=Ports.RANDOM))
    here, there = pair.inside(5000), pair.outside(SERVERS[1])
    public = arrives(there, here, there.getsockname())
    (entry,) = nat.mappings(pair.node)
    assert (entry.protocol, str(entry.inside), entry.inside_port) == ("udp", "10.0.0.2", 5000)
    assert (entry.public_port, str(entry.remote), entry.remote_port) == (public[1], SERVERS[1], None)
    assert 0 <= entry.idle <= entry.age < PATIENCE


# ---- hairpinning, section 6 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mapping", "filtering"), KINDS)
def test_hairpin_shows_the_public_endpoint(pair: Pair, mapping: Dependence, filtering: Dependence) -> None:
    """Both send to the other's public endpoint, as two peers that cross the NAT do."""
    pair.apply(NatKind(mapping, filtering))
    one, two, there = pair.inside(5000), pair.rig.udp(pair.second, port=6000), pair.outside()
    at = {here: arrives(there, here, there.getsockname()) for here in (one, two)}
    before = nat.statistics(pair.node)
    one.sendto(b"from one", at[two])
    two.sendto(b"from two", at[one])
    one.sendto(b"again", at[two])
    wait_for(lambda: decided(before, nat.statistics(pair.node)) >= 3, what="not every datagram was counted")
    if filtering is Dependence.ENDPOINT_INDEPENDENT:
        expected = [b"from two"], [b"from one", b"again"]
    elif mapping is Dependence.ENDPOINT_INDEPENDENT:
        expected = [b"from two"], [b"again"]
    else:  # each speaks to the other from a port that the other has not spoken to
        expected = [], []
    got = [here.recv(100) for here, some in zip((one, two), expected, strict=True) for _ in some]
    assert (got, waiting(one), waiting(two)) == ([*expected[0], *expected[1]], [], [])
    if mapping is Dependence.ENDPOINT_INDEPENDENT:
        one.sendto(b"who", at[two])
        assert two.recvfrom(100) == (b"who", at[one])


def test_without_hairpin_nothing_turns_round(pair: Pair) -> None:
    pair.apply(NatKind(filtering=Dependence.ENDPOINT_INDEPENDENT, hairpin=False))
    one, two, there = pair.inside(), pair.rig.udp(pair.second), pair.outside()
    public = arrives(there, two, there.getsockname())
    before = nat.statistics(pair.node).get("NAT_DROP_HAIRPIN", 0)
    one.sendto(b"?", public)
    wait_for(lambda: nat.statistics(pair.node).get("NAT_DROP_HAIRPIN", 0) > before)
    assert arrives(there, one, there.getsockname())
    assert waiting(two) == []
