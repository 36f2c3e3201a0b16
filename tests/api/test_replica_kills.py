# SPDX-License-Identifier: Apache-2.0
"""Three replicas on Postgres under load while one after the other is killed: nothing acknowledged is lost, no node
misses a change, readers of events go on without gap or duplicate. VEILNET_SOAK=1: a kill every 10 s for 2 minutes."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import pytest

from bench.controller import UNLIMITED, Replica, replicas
from tests.api.killing import Caller, EventReader, balanced, kill_in_turn, steadily
from tests.api.postgres import Cluster
from veilnet.api.bootstrap import init_master
from veilnet.api.counters.repository import CounterRepository
from veilnet.api.db import make_engine, read_session
from veilnet.api.outbox.repository import OutboxRepository
from veilnet.api.settings import load_settings, save_settings
from veilnet.api.snapshots.index import DirectoryIndex, Facts
from veilnet.api.snapshots.repository import DirectoryRepository, Known
from veilnet.enrolment_token import EnrolmentTokenText, read_token
from veilnet.keyd.enrol import enrol
from veilnet.keyd.node import MasterClient
from veilnet.keyd.node_files import NodeError, NodeFiles
from veilnet.protocol.policy import read_policy

SOAK = bool(os.environ.get("VEILNET_SOAK"))
KILLS, EVERY = (12, 10.0) if SOAK else (3, 4.0)
GUARDIANS: Final = 3
CONFLUXES: Final = 6
HEARTBEAT_SECONDS: Final = 60.0
SETTLED_SECONDS: Final = HEARTBEAT_SECONDS / 2
"""After the load: so that a change that nobody was woken for is not found by chance."""


@dataclass
class Member:
    """A node as it runs: keyd's own client, whose documents are all verified."""

    name: str
    files: NodeFiles
    row_id: str
    client: MasterClient
    connections: int = 0
    serial: int = 0
    """Of the last descriptor that the Master acknowledged."""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def follow(self) -> None:
        async for _ in self.client.snapshots():
            pass

    async def leave(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass
class World:
    """What was acknowledged, to be compared with what there is."""

    admin: Caller
    directory: Path
    url: str
    realm_id: str = ""
    users: dict[str, str] = field(default_factory=dict)
    taints: dict[str, list[str]] = field(default_factory=dict)
    edges: dict[frozenset[str], str] = field(default_factory=dict)
    revoked: list[str] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    tokens: dict[str, EnrolmentTokenText] = field(default_factory=dict)

    async def prepare(self) -> None:
        realm = await self.admin.acknowledged("POST", "/realms", {"name": "lab"}, key="realm")
        self.realm_id = realm["id"]
        for role in ("guardian", "conflux"):
            body = {"realm": "lab", "roles": [role], "usage_limit": None}
            found = await self.admin.acknowledged("POST", "/enrolment-tokens", body, key=role)
            self.tokens[role] = read_token(found["token"])
        for number in range(GUARDIANS + CONFLUXES):
            role = "guardian" if number < GUARDIANS else "conflux"
            self.members.append(await self.join(f"{role[0]}{number}", role))

    async def join(self, name: str, role: str) -> Member:
        files = NodeFiles(self.directory / name)
        endpoints = ((IPv4Address("192.0.2.1"), 1000),) if role == "guardian" else ()
        while True:
            try:
                info = await enrol(files, self.tokens[role], name, endpoints)
            except NodeError:  # asking again with the same identity gives the same node
                await asyncio.sleep(0.2)
            else:
                member = Member(name, files, info.id, MasterClient(files))
                member.tasks.append(asyncio.create_task(member.follow()))
                return member

    # ---- the load ------------------------------------------------------------------------------------------------

    async def add_user(self, number: int) -> None:
        name = f"user-{number}"
        found = await self.admin.acknowledged("POST", "/users", {"name": name}, key=name)
        self.users[name] = found["id"]

    async def move(self, number: int) -> None:
        member = self.members[number % len(self.members)]
        await member.client.publish(((IPv4Address("192.0.2.1"), 1001 + number % 60000),))

    async def taint(self, number: int) -> None:
        """Who sees whom changes: a Conflux with `a` is not seen by one with `b`."""
        member = self.members[GUARDIANS + number % CONFLUXES]
        wanted = [["a"], ["b"], ["a", "b"], []][number // 2 % 4]
        found = await self.admin.acknowledged("PUT", f"/nodes/{member.row_id}/taints", {"taints": wanted})
        self.taints[member.row_id] = found["taints"]

    async def rewire(self, number: int) -> None:
        one, two = (self.members[number * 5 % GUARDIANS], self.members[GUARDIANS + number % CONFLUXES])
        pair, path = frozenset({one.name, two.name}), f"/realms/{self.realm_id}/edges"
        if pair in self.edges:
            answer = await self.admin.send("DELETE", f"{path}/{self.edges.pop(pair)}")
            assert answer.status_code in {204, 404}, answer.text  # 404: the answer to the first try was lost
        else:
            body = {"a": one.name, "b": two.name}
            self.edges[pair] = (await self.admin.acknowledged("POST", path, body, key=f"edge-{number}"))["id"]

    async def come_and_go(self, number: int) -> None:
        member = await self.join(f"x{number}", "conflux")
        await asyncio.sleep(1)
        await self.admin.acknowledged("POST", f"/nodes/{member.row_id}:revoke", key=f"revoke-{number}")
        self.revoked.append(member.name)
        await member.leave()

    async def under_load(self, stop: asyncio.Event) -> None:
        rates = {self.add_user: 8.0, self.move: 8.0, self.taint: 2.0, self.rewire: 2.0, self.come_and_go: 0.7}
        async with asyncio.TaskGroup() as group:
            for do, rate in rates.items():
                group.create_task(steadily(rate, stop, do))


@pytest.fixture
def database_url(cluster: Cluster) -> Any:
    cluster.psql("postgres", "CREATE DATABASE veil_kills")
    yield cluster.url("veil_kills")
    cluster.drop("veil_kills")


@pytest.fixture
def prepared(database_url: str, tmp_path: Path) -> tuple[str, int]:
    """(the administrator's bearer, the port of the Master's URL)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    admin = init_master(tmp_path / "master", f"http://127.0.0.1:{port}", database_url)
    save_settings(
        load_settings(tmp_path / "master").model_copy(
            update={"rates": UNLIMITED, "heartbeat_seconds": HEARTBEAT_SECONDS}
        )
    )
    return admin.token, port


@pytest.fixture
async def world(prepared: tuple[str, int], tmp_path: Path) -> AsyncIterator[tuple[World, list[Replica]]]:
    token, port = prepared
    with replicas(tmp_path / "master", 3) as masters:
        async with balanced(port, [master.port for master in masters]):
            admin = Caller(f"http://127.0.0.1:{port}", token)
            found = World(admin, tmp_path, f"http://127.0.0.1:{port}")
            try:
                yield found, masters
            finally:
                await asyncio.gather(*(member.leave() for member in found.members))
                await admin.close()


async def test_replicas_are_killed_under_load(
    world: tuple[World, list[Replica]], prepared: tuple[str, int], database_url: str
) -> None:
    fleet, masters = world
    readers = [EventReader(fleet.url, prepared[0]) for _ in range(3)]
    reading = [asyncio.create_task(reader.run()) for reader in readers]
    await fleet.prepare()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(fleet.under_load(stop))
        slowest = await kill_in_turn(masters, KILLS, EVERY)
        stop.set()
    began = time.monotonic()
    await _settled(fleet, readers, database_url)
    settled = time.monotonic() - began
    for task in reading:
        task.cancel()
    for result in await asyncio.gather(*reading, return_exceptions=True):
        assert isinstance(result, asyncio.CancelledError), result
    await _writes_are_there(fleet)
    await _events_are_whole(readers, database_url)
    print(f"\n{_figures(fleet, readers)}; settled in {settled:.1f} s; slowest start {slowest:.1f} s")


def _figures(fleet: World, readers: list[EventReader]) -> str:
    refused: Counter[str] = Counter()
    for member in fleet.members:
        refused += member.client.refused
    events = [f"{len(reader.seen)} in {reader.connections} connections" for reader in readers]
    return (
        f"{KILLS} kills, {dict(fleet.admin.count)}, longest answer {fleet.admin.longest:.1f} s; events read: {events}; "
        f"{len(fleet.revoked)} nodes came and went; documents refused: {dict(refused)}"
    )


async def _writes_are_there(fleet: World) -> None:
    users = await _all(fleet, "/users?")
    assert {row["name"]: row["id"] for row in users} == fleet.users
    edges = await _all(fleet, f"/realms/{fleet.realm_id}/edges?")
    assert {frozenset({row["a"]["name"], row["b"]["name"]}): row["id"] for row in edges} == fleet.edges
    nodes = {row["name"]: row for row in await _all(fleet, "/nodes?")}
    assert {name for name, row in nodes.items() if row["state"] == "revoked"} == set(fleet.revoked)
    for row in nodes.values():
        assert sorted(row["taints"]) == fleet.taints.get(row["id"], [])
    started = await fleet.admin.acknowledged("POST", "/audit-events/verify", key="verify")
    for _ in range(600):
        operation = (await fleet.admin.send("GET", f"/operations/{started['id']}")).json()
        if operation["state"] != "running":
            break
        await asyncio.sleep(0.1)
    assert operation["result"]["first_fault"] is None, operation


async def _all(fleet: World, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = (await fleet.admin.send("GET", f"{path}limit=500{cursor}")).json()
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


async def _events_are_whole(readers: list[EventReader], database_url: str) -> None:
    engine = make_engine(database_url)
    async with read_session(engine) as session:
        stored = [event.id for event in await OutboxRepository(session).after(0, 1_000_000)]
    await engine.dispose()
    assert stored == list(range(1, len(stored) + 1))
    for reader in readers:
        assert reader.seen == list(range(reader.begins + 1, len(stored) + 1))


async def _settled(fleet: World, readers: list[EventReader], database_url: str) -> None:
    """Until every node has exactly what the database says it may see, and readers have the last event."""
    engine, until = make_engine(database_url), time.monotonic() + SETTLED_SECONDS
    try:
        while True:
            wrong = await _differences(fleet, readers, engine)
            if not wrong:
                return
            assert time.monotonic() < until, "\n".join(wrong)
            await asyncio.sleep(0.2)
    finally:
        await engine.dispose()


async def _differences(fleet: World, readers: list[EventReader], engine: Any) -> list[str]:
    async with read_session(engine) as session:
        directory = DirectoryRepository(session)
        head, known = await directory.head(fleet.realm_id), await directory.known(fleet.realm_id)
        waiting = await directory.changes(fleet.realm_id, 1)
        newest = str(await CounterRepository(session).value("outbox"))
    assert head is not None
    wrong = ["changes wait to be signed"] if waiting else []
    wrong += [f"a reader is at {reader.last}, {newest} exist" for reader in readers if reader.last != newest]
    index, gone = DirectoryIndex(read_policy(head.policy)), {}
    for item in known:
        facts = Facts.of(item.row_id, item.facts, item.version, item.facts_version)
        if item.gone:
            gone[facts.node_id] = item
        else:
            index.put(facts)
    for member in fleet.members:
        wrong += _faults(member, head.version, index, gone)
    return wrong


def _faults(member: Member, head_version: int, index: DirectoryIndex, gone: dict[bytes, Known]) -> list[str]:
    replica = member.client.replica
    own = bytes.fromhex(member.client._info.node)
    held = {node: record.entry.version for node, record in replica._records.items()}
    found = [] if replica.head and replica.head.version == head_version else [f"{member.name}: an old head"]
    wanted = index.sight(own)
    for node in wanted:
        if held.get(node) != index.facts[node].version:
            text = f"{member.name}: {index.facts[node].name} at {held.get(node)}, signed {index.facts[node].version}"
            found.append(text)
    seen = set(replica.directory(int(time.time())).nodes)
    found += [f"{member.name} still sees {node.hex()}" for node in seen - wanted]
    found += [f"{member.name} does not see {index.facts[node].name}" for node in wanted - seen]
    used = {node: version for node, version in held.items() if node not in replica.unseen}
    stale = [item for node, item in gone.items() if used.get(node, item.version) < item.version]
    return found + [f"{member.name}: does not know that {item.facts['name']} is gone" for item in stale]
