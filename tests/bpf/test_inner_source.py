# SPDX-License-Identifier: Apache-2.0
"""Inner packets that lie about where they come from, at the end of a circuit on the real data plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.bpf import streams
from tests.bpf.harness import XDP_DROP, World
from tests.bpf.streams import HERE4, HERE6, LINK, PEER, PEER4, PEER6, STREAM, inner4, inner6
from tests.bpf.test_open import LABEL, Receiver
from veilnet import contract as c

pytestmark = pytest.mark.root

ROUTES = {
    f"{PEER4}/32": (PEER, STREAM),
    f"{PEER6}/128": (PEER, STREAM),
    f"{HERE4}/32": streams.OWN,
    f"{HERE6}/128": streams.OWN,
}


@pytest.fixture
def receive(world: World, rx: int) -> Iterator[Receiver]:
    streams.setup(world)
    world.put_circuit(LABEL, kind=c.CIRCUIT_END, in_link=LINK, stream=STREAM)
    with streams.routes(world, ROUTES):
        yield Receiver(world, rx)


@pytest.fixture
def seal(world: World, load_program: Callable[[str], int]) -> Iterator[int]:
    streams.setup(world)
    with streams.routes(world, ROUTES):
        yield load_program("veil_seal.c")


def test_own_addresses_pass(receive: Receiver) -> None:
    for counter, inner in enumerate((inner4(100, src=PEER4, dst=HERE4), inner6(100, src=PEER6, dst=HERE6))):
        assert receive(inner, counter=counter).reasons == {"OK_OPEN": 1}


@pytest.mark.parametrize("source", [f"::ffff:{PEER4}", f"::ffff:{HERE4}", f"::{PEER4}", "::", "ff02::1"])
def test_ipv6_source_that_the_directory_gives_to_nobody(receive: Receiver, source: str) -> None:
    """The routes hold IPv4 as ::ffff:a.b.c.d; no IPv6 packet may come from such an address."""
    done = receive(inner6(100, src=source, dst=HERE6))
    assert done.verdict == XDP_DROP
    assert done.reasons.keys() <= {"DROP_INNER_SRC", "DROP_INNER_BAD"}


def test_mapped_destination_is_nobodys(world: World, seal: int) -> None:
    done = world.run(seal, streams.from_host(inner6(100, src=HERE6, dst=f"::ffff:{PEER4}")))
    assert (done.verdict, done.reasons) == (XDP_DROP, {"DROP_INNER_NOT_IP": 1})
