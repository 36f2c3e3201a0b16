# SPDX-License-Identifier: Apache-2.0
"""Networks behind Confluxes on the real data plane: who may send from where, what is delivered, what is sealed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.bpf import streams
from tests.bpf.harness import XDP_DROP, XDP_REDIRECT, World
from tests.bpf.streams import HERE4, HERE6, LINK, OWN, PEER, PEER4, PEER6, STREAM, inner4, inner6
from tests.bpf.test_open import LABEL as IN_LABEL
from tests.bpf.test_open import Receiver
from veilnet import contract as c

pytestmark = pytest.mark.root

OTHER, OTHER4 = 18, "10.9.0.3"
ROUTES = {
    f"{PEER4}/32": (PEER, STREAM),
    f"{PEER6}/128": (PEER, STREAM),
    f"{OTHER4}/32": (OTHER, 0),
    f"{HERE4}/32": OWN,
    f"{HERE6}/128": OWN,
}
FROM, HOLE = (PEER, 0), (c.PEER_NONE, 0)
PEERS_NETWORKS = {
    (PEER, "10.0.0.0/8"): FROM,  # wider than the overlay's own range
    (PEER, "10.9.0.0/16"): HOLE,
    (PEER, "10.66.0.0/16"): HOLE,
    (PEER, "10.66.7.0/24"): FROM,  # inside the hole
    (PEER, "2001:db8:7::/48"): FROM,
    (OTHER, "172.20.0.0/16"): (OTHER, 0),
}
OWN_NETWORKS = {
    (c.PEER_SELF, "192.168.7.0/24"): OWN,
    (c.PEER_SELF, "2001:db8:1::/48"): OWN,
    (c.PEER_SELF, "10.8.0.0/13"): OWN,
    (c.PEER_SELF, "10.9.0.0/16"): HOLE,
}


@pytest.fixture
def receive(world: World, rx: int) -> Iterator[Receiver]:
    streams.setup(world)
    world.put_circuit(IN_LABEL, kind=c.CIRCUIT_END, in_link=LINK, stream=STREAM)
    with streams.routes(world, ROUTES):
        yield Receiver(world, rx)


@pytest.fixture
def seal(world: World, load_program: Callable[[str], int]) -> Iterator[int]:
    streams.setup(world)
    with streams.routes(world, ROUTES):
        yield load_program("veil_seal.c")


# ---- opening: sources -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["10.1.2.3", "10.66.7.9", "10.255.255.255"])
def test_a_peer_may_send_from_its_networks(world: World, receive: Receiver, source: str) -> None:
    with streams.networks(world, PEERS_NETWORKS):
        assert receive(inner4(100, src=source, dst=HERE4)).reasons == {"OK_OPEN": 1}


def test_and_from_its_ipv6_networks(world: World, receive: Receiver) -> None:
    with streams.networks(world, PEERS_NETWORKS):
        assert receive(inner6(100, src="2001:db8:7::9", dst=HERE6)).reasons == {"OK_OPEN": 1}


@pytest.mark.parametrize(
    "source",
    [
        "11.0.0.1",  # nobody's
        "172.20.0.1",  # another peer's network
        OTHER4,  # another peer's address, inside this peer's network
        "10.9.0.77",  # the realm's range, given to nobody
        "10.66.8.1",  # a hole
        HERE4,  # our own address
    ],
)
def test_spoofed_sources_are_refused(world: World, receive: Receiver, source: str) -> None:
    with streams.networks(world, PEERS_NETWORKS):
        done = receive(inner4(100, src=source, dst=HERE4))
    assert (done.verdict, done.reasons) == (XDP_DROP, {"DROP_INNER_SRC": 1})


def test_a_source_of_the_host_s_own_network_is_refused(world: World, receive: Receiver) -> None:
    """What this node delivers to is not what a peer may send from."""
    with streams.networks(world, OWN_NETWORKS):
        assert receive(inner4(100, src="192.168.7.1", dst=HERE4)).reasons == {"DROP_INNER_SRC": 1}


def test_withdrawn_while_the_stream_is_up(world: World, receive: Receiver) -> None:
    with streams.networks(world, PEERS_NETWORKS):
        assert receive(inner4(100, src="10.1.2.3", dst=HERE4), counter=1).reasons == {"OK_OPEN": 1}
    assert receive(inner4(100, src="10.1.2.3", dst=HERE4), counter=2).reasons == {"DROP_INNER_SRC": 1}


# ---- opening: destinations --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["192.168.7.20", "10.8.0.1", "10.15.255.1"])
def test_own_networks_are_delivered_to_the_kernel(world: World, receive: Receiver, target: str) -> None:
    with streams.networks(world, OWN_NETWORKS):
        done = receive(inner4(100, src=PEER4, dst=target))
    assert (done.verdict, done.reasons) == (XDP_REDIRECT, {"OK_OPEN": 1})


def test_own_ipv6_networks_too(world: World, receive: Receiver) -> None:
    with streams.networks(world, OWN_NETWORKS):
        assert receive(inner6(100, src=PEER6, dst="2001:db8:1::5")).reasons == {"OK_OPEN": 1}


@pytest.mark.parametrize("target", ["192.168.8.1", "10.9.0.77", OTHER4, PEER4, "10.1.2.3", "127.0.0.1", "224.0.0.1"])
def test_nothing_else_is(world: World, receive: Receiver, target: str) -> None:
    """Also not what lies in the peer's own networks, and not through a wide network another overlay address."""
    with streams.networks(world, PEERS_NETWORKS | OWN_NETWORKS):
        done = receive(inner4(100, src=PEER4, dst=target))
    assert (done.verdict, done.reasons) == (XDP_DROP, {"DROP_INNER_NOT_OURS": 1})


# ---- sealing ----------------------------------------------------------------------------------------------------

TO = {
    (c.SCOPE_TO, "0.0.0.0/0"): (OTHER, 0),
    (c.SCOPE_TO, "10.0.0.0/8"): (PEER, STREAM),
    (c.SCOPE_TO, "10.9.0.0/16"): HOLE,
    (c.SCOPE_TO, "192.168.7.0/24"): OWN,
    (c.SCOPE_TO, "2001:db8:7::/48"): (PEER, STREAM),
}


@pytest.mark.parametrize("inner", [inner4(100, dst="10.1.2.3"), inner6(100, dst="2001:db8:7::9")])
def test_a_network_s_packets_go_into_its_gateway_s_stream(world: World, seal: int, inner: bytes) -> None:
    with streams.networks(world, TO):
        done = world.run(seal, streams.from_host(inner))
    assert (done.verdict, done.reasons) == (XDP_REDIRECT, {"OK_SEAL": 1})
    assert world.streams[STREAM].tx[0].counter == 1


def test_a_source_behind_this_gateway_is_sealed(world: World, seal: int) -> None:
    with streams.networks(world, OWN_NETWORKS):
        assert world.run(seal, streams.from_host(inner4(100, src="192.168.7.20"))).reasons == {"OK_SEAL": 1}


def test_without_a_stream_the_gateway_is_asked_for(world: World, seal: int) -> None:
    with streams.networks(world, TO):
        done = world.run(seal, streams.from_host(inner4(100, dst="203.0.113.5")))
    assert done.reasons == {"OK_WAIT": 1}
    assert [(event.type, event.peer, event.stream) for event in done.events] == [(c.EVENT_NO_STREAM, OTHER, 0)]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (PEER4, "OK_SEAL"),  # an overlay address wins over the hole
        (OTHER4, "OK_WAIT"),  # and over the network of another
        ("10.9.0.77", "DROP_INNER_DST"),  # nobody's in the realm's range
        ("192.168.7.9", "DROP_INNER_DST"),  # our own network: back into the overlay it would circle
    ],
)
def test_overlay_addresses_win_and_nothing_circles(world: World, seal: int, target: str, reason: str) -> None:
    with streams.networks(world, TO):
        done = world.run(seal, streams.from_host(inner4(100, dst=target)))
    assert done.reasons == {reason: 1}
    if reason == "OK_WAIT":
        assert [event.peer for event in done.events] == [OTHER]


def test_no_network_no_way(world: World, seal: int) -> None:
    assert world.run(seal, streams.from_host(inner4(100, dst="10.1.2.3"))).reasons == {"DROP_INNER_DST": 1}
