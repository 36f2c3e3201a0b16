# SPDX-License-Identifier: Apache-2.0
"""A node whose disk is full: it hears of every change, says so, and has all of it on disk when there is room again."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.api.test_channel import ENDPOINT, Running, running, until
from tests.patience import PATIENCE
from veilnet.keyd.advertise import advertise, advertised
from veilnet.keyd.enrol import enrol
from veilnet.keyd.node import DESCRIPTOR_RENEW_BEFORE, MasterClient
from veilnet.keyd.node_files import NodeFiles, unix_now

__all__ = ["running"]

pytestmark = pytest.mark.root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Of 1 MB, for one node's state."""
    (place := tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "veil-small", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


async def eventually(what: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not what():
            await asyncio.sleep(0.05)


async def test_it_goes_on_and_has_everything_when_there_is_room(running: Running, small_disk: Path) -> None:
    token, files = await running.token(), NodeFiles(small_disk / "one")
    await enrol(files, token, "one", ENDPOINT)
    client = MasterClient(files)
    snapshots = client.snapshots()
    await until(snapshots, {"one"})
    filler = fill(small_disk)
    others = {f"node{number}" for number in range(6)}
    for name in sorted(others):
        await enrol(NodeFiles(running.state_dir.parent / name), token, name, ())
    await until(snapshots, {"one", *others})
    assert "full" in client.status()["disk_fault"]
    assert "one" in {node.name for node in MasterClient(files).replica.directory(client._clock()).nodes.values()}
    following = asyncio.create_task(until(snapshots, {"nobody"}))
    filler.unlink()
    await eventually(lambda: client.status()["disk_fault"] is None)
    assert not following.done()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    kept = MasterClient(files).replica
    assert kept.version == client.version
    assert {node.name for node in kept.directory(client._clock()).nodes.values()} == {"one", *others}


async def test_a_descriptor_that_can_not_be_renewed_keeps_no_change_away(running: Running, small_disk: Path) -> None:
    files = NodeFiles(small_disk / "one")
    await enrol(files, await running.token(), "one", ENDPOINT)
    ahead = 0
    client = MasterClient(files, clock=lambda: unix_now() + ahead)
    old = client._descriptor()
    ahead = 7 * 86400 - DESCRIPTOR_RENEW_BEFORE + 1
    filler = fill(small_disk)
    assert client._descriptor() == old and "descriptor.json" in client.status()["disk_fault"]
    snapshots = client.snapshots()
    await until(snapshots, {"one"})
    await snapshots.aclose()
    filler.unlink()
    renewed = client._descriptor()
    assert old is not None and renewed is not None and renewed.serial > old.serial
    assert "descriptor" not in (client.status()["disk_fault"] or "")


def test_a_gateway_starts_again_on_a_full_disk(small_disk: Path) -> None:
    files, networks = NodeFiles(small_disk), [ip_network("192.168.7.0/24"), ip_network("2001:db8::/48")]
    advertise(files, networks)
    fill(small_disk)
    advertise(files, networks)
    with pytest.raises(OSError, match="No space left"):
        advertise(files, networks[:1])
    assert advertised(files) == sorted(str(network) for network in networks)
