# SPDX-License-Identifier: Apache-2.0
"""An older backup is restored: nodes that know more than it take what the restored Master signs, and nothing older."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import START, Master
from tests.api.test_channel import ENDPOINT, Running, running, until
from tests.patience import PATIENCE
from veilnet.api.clock import ACCEPT, JUMP_MAX
from veilnet.api.db import make_engine, read_session
from veilnet.api.outbox.repository import OutboxRepository
from veilnet.api.settings import MasterSettings, SetupError, save_settings
from veilnet.api.snapshots.feed import Feed
from veilnet.api.storage.backup import back_up, restore
from veilnet.api.storage.restored import ABOVE_MAX, begin_again
from veilnet.api.storage.upgrade import bring_up_to_date
from veilnet.api.times import DAY
from veilnet.enrolment_token import EnrolmentTokenText
from veilnet.files import private_directory
from veilnet.keyd.enrol import enrol
from veilnet.keyd.node import MasterClient
from veilnet.keyd.node_files import NodeFiles
from veilnet.protocol.directory import Directory
from veilnet.protocol.envelope import Rollback

__all__ = ["running"]
MOVED = ((IPv4Address("198.51.100.77"), 777),)


class Node:
    """A node that runs: what it last decided by is `directory`."""

    def __init__(self, files: NodeFiles) -> None:
        self.client, self.files = MasterClient(files), files
        self.directory: Directory | None = None
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with aclosing(self.client.snapshots()) as snapshots:
            async for self.directory in snapshots:
                pass

    @property
    def sees(self) -> set[str]:
        return set() if self.directory is None else {node.name for node in self.directory.nodes.values()}

    async def come_to_see(self, names: set[str]) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.sees != names:
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def nodes(running: Running, tmp_path: Path) -> AsyncIterator[dict[str, Node]]:
    token = await running.token()
    found: dict[str, Node] = {}
    for name in ("one", "two", "gone"):
        found[name] = await joined(tmp_path / name, token)
    yield found
    for node in found.values():
        await node.stop()


async def joined(directory: Path, token: EnrolmentTokenText) -> Node:
    files = NodeFiles(directory)
    await enrol(files, token, directory.name, ENDPOINT)
    return Node(files)


async def test_nodes_follow_a_master_that_was_restored_from_an_older_backup(
    running: Running, nodes: dict[str, Node], tmp_path: Path
) -> None:
    one, two = nodes["one"], nodes["two"]
    await one.come_to_see({"one", "two", "gone"})
    await asyncio.to_thread(back_up, running.state_dir, tmp_path / "b.tar")
    nodes["late"] = await joined(tmp_path / "late", await running.token())
    await running.call("POST", f"/nodes/{nodes['gone'].client._info.id}:revoke")
    await two.client.publish(MOVED)
    for node in (one, two, nodes["late"]):
        await node.come_to_see({"one", "two", "late"})
    await nodes["gone"].stop()
    before, records = one.client.replica.version, dict(one.client.replica._records)
    known = stored(one.files)

    await running.stop()
    restored = await asyncio.to_thread(restore, tmp_path / "b.tar", tmp_path / "again")
    assert (restored.begun.realms, restored.begun.nodes) == (1, 3)
    running.state_dir = restored.settings.state_dir
    await running.start()

    nodes["back"] = Node(nodes["gone"].files)  # revoked after the backup: the operator has to do that again
    for node in (one, two, nodes["back"]):
        await node.come_to_see({"one", "two", "gone"})
    async with asyncio.timeout(PATIENCE):  # the Master had an older descriptor; its owner hands it in again
        while not one.directory or not any(view.endpoints == MOVED for view in one.directory.nodes.values()):
            await asyncio.sleep(0.05)
    assert one.client.replica.version > 1000 * before
    assert not one.client.refused and not two.client.refused

    late = next(record for record in records.values() if record.certificate and record.certificate.name == "late")
    with pytest.raises(Rollback):  # an old record is signed well, and comes too late
        one.client.replica.take_record(known[late.entry.node.hex()], one.client._clock())
    again = MasterClient(one.files)
    assert await until(again.snapshots(), {"one", "two", "gone"})
    assert again.replica.shut == one.client.replica.shut > before


def stored(files: NodeFiles) -> dict[str, Any]:
    """Node id → record, as this node keeps it."""
    with closing(sqlite3.connect(files.state_dir / "directory.db")) as database:
        return {node: json.loads(text) for node, text in database.execute("SELECT node, document FROM record")}


async def test_a_database_that_came_back_by_itself(master: Master) -> None:
    """Versions of everything rise above all before, the head shuts out the rest when they are all signed."""
    realm = await master.realm()
    for name in ("one", "two"):
        await master.enrol(name)
    feed = Feed(master.context, realm["id"])
    await feed.turn(due=True)
    before = feed.version
    begun = await begin_again(master.context.settings, clock=master.clock)
    assert (begun.realms, begun.nodes) == (1, 2)
    other = Feed(master.context, realm["id"])
    await other.turn(due=True)
    assert {facts.version > 1000 * before for facts in other._index.facts.values()} == {True}
    assert other._head is not None
    async with read_session(master.context.engine) as session:
        newest = (await OutboxRepository(session).after(0, 100))[-1]
    assert newest.type == "master.restored" and newest.id > 1000 * before
    verified = await master.request("POST", "/audit-events/verify", status=202)
    async with asyncio.timeout(PATIENCE):
        while (found := await master.request("GET", f"/operations/{verified['id']}"))["state"] == "running":
            await asyncio.sleep(0.02)
    assert found["result"]["first_fault"] is None


@pytest.mark.parametrize(
    ("away", "says"),
    [(61 * DAY, "61 days after its last change"), (-JUMP_MAX - 1, "301 s behind what it has signed")],
)
async def test_nothing_begins_again_at_a_time_that_can_not_be(
    master: Master, monkeypatch: pytest.MonkeyPatch, away: int, says: str
) -> None:
    """The entry of a restore years ahead would make the next start trust that clock, and retention drop everything."""
    monkeypatch.delenv(ACCEPT, raising=False)
    realm = await master.realm()
    await master.enrol("one")
    feed = Feed(master.context, realm["id"])
    await feed.turn(due=True)
    before = await master.request("GET", "/audit-events?limit=100")
    with pytest.raises(SetupError, match=says) as found:
        await begin_again(master.context.settings, clock=lambda: START + away)
    assert f"{ACCEPT}=1" in str(found.value)
    assert await master.request("GET", "/audit-events?limit=100") == before
    await feed.turn()
    assert feed.version < 1000, "no version was raised"
    monkeypatch.setenv(ACCEPT, "1")
    assert (await begin_again(master.context.settings, clock=lambda: START + away)).nodes == 1


async def test_versions_go_on_above_what_nodes_say(master: Master) -> None:
    """An earlier restore, with a clock years ahead, has told nodes versions that the time does not reach."""
    realm = await master.realm()
    await master.enrol("one")
    known = 2_500_000_000 * 1000
    for above in (-1, ABOVE_MAX + 1):
        with pytest.raises(SetupError, match="--above"):
            await begin_again(master.context.settings, above, master.clock)
    await begin_again(master.context.settings, known, master.clock)
    feed = Feed(master.context, realm["id"])
    await feed.turn(due=True)
    assert {facts.version > known for facts in feed._index.facts.values()} == {True} and feed.version > known


def test_a_backup_is_not_unpacked_at_a_time_that_can_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is written: a database that pg_restore has filled would have to be emptied by hand."""
    monkeypatch.delenv(ACCEPT, raising=False)
    settings = MasterSettings(
        state_dir=private_directory(tmp_path / "master"),
        public_url="https://127.0.0.1:8443",
        tls_fingerprint=None,
        database_url=f"sqlite+aiosqlite:///{tmp_path / 'master' / 'master.db'}",
    )
    save_settings(settings)
    asyncio.run(migrated(settings))
    back_up(settings.state_dir, tmp_path / "b.tar")
    now = time.time()
    for away, says in ((61 * DAY, "61 days after"), (-JUMP_MAX - 9, "s behind")):
        monkeypatch.setattr(time, "time", lambda away=away: now + away)
        with pytest.raises(SetupError, match=says):
            restore(tmp_path / "b.tar", tmp_path / "again")
        assert not list((tmp_path / "again").iterdir())


async def migrated(settings: MasterSettings) -> None:
    engine = make_engine(settings.database_url)
    await bring_up_to_date(engine, settings.backups_dir)
    await engine.dispose()


async def test_a_copy_put_back_without_a_word_is_noticed(master: Master, caplog: pytest.LogCaptureFixture) -> None:
    realm = await master.realm()
    enrolled = await master.enrol("one")
    feed = Feed(master.context, realm["id"])
    await feed.turn(due=True)
    node_id = bytes.fromhex((await master.request("GET", f"/nodes/{enrolled['id']}"))["node_id"])
    for since in (feed.version, feed.version + 1, feed.version + 2):
        with feed.join(node_id, since) as channel:
            await feed.look_behind(channel)
    assert [record.message.count("veilnet master db restored") for record in caplog.records] == [1]
    assert master.context.metrics.registry.get_sample_value("veilnet_master_nodes_ahead_total") == 2
    await feed.stop()


async def test_a_node_that_was_told_a_number_ahead_of_all_still_learns_who_was_revoked(
    running: Running, tmp_path: Path
) -> None:
    """The number is not signed: whoever once spoke in the Master's place could have named any."""
    token = await running.token(roles=["conflux"])
    files = {name: NodeFiles(tmp_path / name) for name in ("poisoned", "gone", "witness")}
    info = {name: await enrol(each, token, name, ()) for name, each in files.items()}
    poisoned = MasterClient(files["poisoned"])
    async with aclosing(poisoned.snapshots()) as snapshots:
        await until(snapshots, set(files))
    async with aclosing(MasterClient(files["witness"]).snapshots()) as seen:
        await until(seen, set(files))
        await running.call("POST", f"/nodes/{info['gone'].id}:revoke")
        await until(seen, {"poisoned", "witness"})
    poisoned.replica.version = 2**53
    async with aclosing(poisoned.snapshots()) as snapshots:
        await until(snapshots, {"poisoned", "witness"})
