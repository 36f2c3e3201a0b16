# SPDX-License-Identifier: Apache-2.0
"""What a node's daemon tells of its Master, clocks, the realm's keys and documents that it refused."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.api.test_channel import Running, running, until
from tests.patience import PATIENCE
from veilnet.keyd.enrol import enrol
from veilnet.keyd.node import MasterClient
from veilnet.keyd.node_files import NodeFiles
from veilnet.protocol.directory import Directory

__all__ = ["running"]


async def test_status_tells_of_master_clock_trust_and_refused_documents(running: Running, tmp_path: Path) -> None:
    files, ahead = NodeFiles(tmp_path / "one"), 0
    await enrol(files, await running.token(), "one", ())
    realm = (await running.call("GET", "/realms"))["items"][0]
    client = MasterClient(files, lambda: int(time.time()) + ahead)
    snapshots = client.snapshots()
    await until(snapshots, {"one"})
    told = client.status()
    head = client.replica.head
    assert head is not None
    assert told["master"] == {"url": running.url, "connected": True, "last_error": None}
    assert told["clock_fault"] is None and told["refused"] == {}
    assert told["trust"] == {
        "ca_keys": [realm["realm"]],
        "retired": 0,
        "head_version": head.version,
        "head_expires": head.expires,
    }

    client._message(json.dumps({"type": "records", "from": 0, "version": 1, "records": [{}, {"entry": 1}]}))
    assert client.status()["refused"] == {"MalformedDocument": 2}
    ahead = 5000
    listening = asyncio.create_task(drain_directories(snapshots))
    async with asyncio.timeout(PATIENCE):
        while client.status()["clock_fault"] is None:
            await asyncio.sleep(0.02)
    assert "ahead of the Master's" in client.status()["clock_fault"]

    await running.stop()
    async with asyncio.timeout(PATIENCE):
        while client.status()["master"]["connected"]:
            await asyncio.sleep(0.02)
    told = client.status()
    assert told["master"]["last_error"] and told["clock_fault"] is None, "whose clock is wrong is not known any more"
    ahead = head.expires - int(time.time()) + 60
    assert client.status()["clock_fault"].startswith("head-ended")
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await snapshots.aclose()
    await running.start()


async def drain_directories(snapshots: AsyncIterator[Directory]) -> None:
    async for _ in snapshots:
        pass
