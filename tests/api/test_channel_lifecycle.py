# SPDX-License-Identifier: Apache-2.0
"""A node's life as the node itself lives it: over its channel, with its own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_channel import ENDPOINT, Running, running, until
from tests.patience import PATIENCE, eventually
from veilnet.api.upkeep.service import Upkeep
from veilnet.keyd.enrol import enrol
from veilnet.keyd.node import MasterClient
from veilnet.keyd.node_files import NodeError, NodeFiles

__all__ = ["running"]


async def act(running: Running, node_id: str, step: str) -> Any:
    return await running.call("POST", f"/nodes/{node_id}:{step}")


async def test_an_expired_node_is_dropped_at_once_and_comes_back_by_itself(running: Running, tmp_path: Path) -> None:
    token = await running.token()
    files = {name: NodeFiles(tmp_path / name) for name in ("one", "two")}
    infos = {name: await enrol(place, token, name, ENDPOINT) for name, place in files.items()}
    clients = {name: MasterClient(place) for name, place in files.items()}
    streams = {name: client.snapshots() for name, client in clients.items()}
    for stream in streams.values():
        await until(stream, {"one", "two"})
    following = asyncio.create_task(_follow(streams["two"]))
    await act(running, infos["two"].id, "expire")
    await until(streams["one"], {"one"})

    async def out() -> bool:
        return not clients["two"].connected and "403" in clients["two"].last_error

    await eventually(out)
    await act(running, infos["two"].id, "renew")
    await until(streams["one"], {"one", "two"})

    async def back() -> bool:
        return clients["two"].connected

    await eventually(back)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    for stream in streams.values():
        await stream.aclose()


async def _follow(stream: AsyncIterator[Any]) -> None:
    async for _ in stream:
        pass


async def test_a_drained_guardian_is_seen_as_such_by_all_and_by_itself(running: Running, tmp_path: Path) -> None:
    token = await running.token()
    info = await enrol(NodeFiles(tmp_path / "relay"), token, "relay", ENDPOINT)
    await enrol(NodeFiles(tmp_path / "other"), token, "other", ENDPOINT)
    streams = [MasterClient(NodeFiles(tmp_path / name)).snapshots() for name in ("relay", "other")]
    for stream in streams:
        await until(stream, {"relay", "other"})
    for step, wanted in (("drain", True), ("undrain", False)):
        await act(running, info.id, step)
        for stream in streams:
            async with asyncio.timeout(PATIENCE):
                async for directory in stream:
                    if directory.nodes[bytes.fromhex(info.node)].draining is wanted:
                        break
    for stream in streams:
        await stream.aclose()


async def test_a_deleted_node_enrols_again_with_its_old_keys(running: Running, tmp_path: Path) -> None:
    """What `up --enrol-again` does."""
    token, files = await running.token(), NodeFiles(tmp_path / "one")
    first = await enrol(files, token, "one", ENDPOINT)
    key = files.identity_key()
    await act(running, first.id, "revoke")
    with pytest.raises(NodeError, match="revoked"):
        await enrol(files, token, "one", ENDPOINT)
    await running.call("POST", "/nodes:batch", {"items": [{"id": first.id, "action": "delete"}]})
    again = await enrol(files, token, "one", ENDPOINT)
    assert (again.node, files.identity_key()) == (first.node, key)
    stream = MasterClient(files).snapshots()
    await until(stream, {"one"})
    await stream.aclose()


async def test_an_ephemeral_node_is_here_while_its_channel_is_open_and_goes_after_it(tmp_path: Path) -> None:
    running = Running(tmp_path / "master")
    await running.init()
    running.changes = {"ephemeral_seconds": 2}
    await running.start()
    await running.call("POST", "/realms", {"name": "lab"})
    info = await enrol(NodeFiles(tmp_path / "job"), await running.token(ephemeral=True), "job", ENDPOINT)
    client = MasterClient(NodeFiles(tmp_path / "job"))
    stream = client.snapshots()
    await until(stream, {"job"})
    following = asyncio.create_task(_follow(stream))
    upkeep = Upkeep(running.app.state.context, 0, announced_at=10**12)
    seen = set()
    for _ in range(9):
        await asyncio.sleep(0.5)
        await upkeep.turn()
        seen.add((await running.call("GET", f"/nodes/{info.id}"))["last_seen_at"])
    assert len(seen) >= 3, "its presence is noted while it lasts, for other Masters and for the next start"
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await stream.aclose()

    async def gone() -> bool:
        await upkeep.turn()
        return not (await running.call("GET", "/nodes"))["items"]

    await eventually(gone)
    await running.stop()
