# SPDX-License-Identifier: Apache-2.0
"""Snapshots as a node gets them, over real TLS and WebSocket from a Master made by `init_master`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import sqlite3
import ssl
import stat
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import uvicorn
from fastapi import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.patience import PATIENCE
from veilnet.admin_token import AdminTokenText
from veilnet.api.app import create_app
from veilnet.api.bootstrap import Listen, api_config, init_master
from veilnet.api.settings import SetupError, load_settings
from veilnet.api.snapshots.endpoints import PIECE, _send
from veilnet.api.snapshots.feed import Channel
from veilnet.enrolment_token import EnrolmentTokenText, read_token
from veilnet.keyd import node as node_module
from veilnet.keyd.enrol import enrol
from veilnet.keyd.node import MasterClient
from veilnet.keyd.node_files import NodeError, NodeFiles
from veilnet.protocol.directory import Directory
from veilnet.tls_pin import PinError, fetch_certificate, pinned_context

ENDPOINT = ((IPv4Address("192.0.2.9"), 4500),)


class Running:
    """A Master that can be stopped and started again on the same port and state directory."""

    def __init__(self, state_dir: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.state_dir = state_dir
        self.changes: dict[str, Any] = {}
        """Settings that are not as in `master.json`."""

    async def init(self) -> AdminTokenText:
        self.admin = await asyncio.to_thread(init_master, self.state_dir, self.url)
        assert self.admin.tls is not None
        return self.admin

    async def start(self) -> None:
        settings = load_settings(self.state_dir).model_copy(update={"heartbeat_seconds": 0.2, **self.changes})
        self.app = create_app(settings)
        config = api_config(self.app, settings, Listen("127.0.0.1", self.port))
        config.timeout_graceful_shutdown = 20
        self.server = uvicorn.Server(config)
        self.task = asyncio.create_task(self.server._serve())
        while not self.server.started:
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self.server.should_exit = True
        await self.task

    def context(self) -> ssl.SSLContext:
        return pinned_context((self.state_dir / "tls.pem").read_text())

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        async with httpx.AsyncClient(verify=self.context(), timeout=PATIENCE, trust_env=False) as client:
            headers = {"Authorization": f"Bearer {self.admin.token}"} | ({"If-Match": "*"} if method == "PUT" else {})
            response = await client.request(method, f"{self.url}/api/v1{path}", json=body, headers=headers)
            assert response.is_success, response.text
            return response.json()

    async def token(self, **changes: Any) -> EnrolmentTokenText:
        body = {"realm": "lab", "roles": ["guardian"], "usage_limit": None, **changes}
        return read_token((await self.call("POST", "/enrolment-tokens", body))["token"])


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    running = Running(tmp_path / "master")
    await running.init()
    await running.start()
    await running.call("POST", "/realms", {"name": "lab"})
    yield running
    await running.stop()


async def until(snapshots: AsyncIterator[Directory], nodes: set[str], edges: int = 0) -> Directory:
    """Next directory with exactly these node names and so many edges."""
    async with asyncio.timeout(PATIENCE):
        async for directory in snapshots:
            if {node.name for node in directory.nodes.values()} == nodes and len(directory.edges) == edges:
                return directory
    raise AssertionError("snapshots ended")


async def drain(channel: ClientConnection) -> None:
    while True:
        await channel.recv()


async def test_nodes_learn_of_each_other_without_asking(running: Running, tmp_path: Path) -> None:
    token = await running.token()
    files = NodeFiles(tmp_path / "one")
    info = await enrol(files, token, "one", ENDPOINT)
    client = MasterClient(files)
    snapshots = client.snapshots()
    alone = await until(snapshots, {"one"})
    assert alone.nodes[bytes.fromhex(info.node)].endpoints == ENDPOINT
    await enrol(NodeFiles(tmp_path / "two"), token, "two", ())
    await until(snapshots, {"one", "two"})
    await running.call("POST", "/realms/lab/edges", {"a": "one", "b": "two"})
    joined = await until(snapshots, {"one", "two"}, edges=1)
    assert len(joined.neighbours(bytes.fromhex(info.node))) == 1
    listed = await running.call("GET", "/nodes")
    assert {node["name"]: node["connected"] for node in listed["items"]} == {"one": True, "two": False}
    await snapshots.aclose()


async def test_node_starts_from_disk_and_survives_a_restart_of_the_master(running: Running, tmp_path: Path) -> None:
    token = await running.token()
    files = NodeFiles(tmp_path / "one")
    await enrol(files, token, "one", ())
    first = MasterClient(files).snapshots()
    before = await until(first, {"one"})
    await first.aclose()

    await running.stop()
    again = MasterClient(files)
    snapshots = again.snapshots()
    assert await until(snapshots, {"one"}) == before  # Master is away
    waiting = asyncio.create_task(until(snapshots, {"one", "two"}))
    await asyncio.sleep(0.3)
    assert not waiting.done() and not again.connected
    await running.start()
    await enrol(NodeFiles(tmp_path / "two"), token, "two", ())
    assert (await waiting).version > before.version
    assert again.connected
    await snapshots.aclose()


async def test_enrolling_again_after_a_lost_answer_gives_the_same_node(running: Running, tmp_path: Path) -> None:
    files, token = NodeFiles(tmp_path / "one"), await running.token(usage_limit=1)
    first = await enrol(files, token, "one", ENDPOINT)
    (files.state_dir / "node.json").unlink()
    assert await enrol(files, token, "one", ENDPOINT) == first
    await until(MasterClient(files).snapshots(), {"one"})
    with pytest.raises(NodeError, match="used up"):
        await enrol(NodeFiles(tmp_path / "two"), token, "two", ())


async def test_moved_endpoints_reach_the_others(running: Running, tmp_path: Path) -> None:
    token = await running.token()
    one, two = NodeFiles(tmp_path / "one"), NodeFiles(tmp_path / "two")
    info = await enrol(one, token, "one", ENDPOINT)
    await enrol(two, token, "two", ())
    snapshots = MasterClient(two).snapshots()
    await until(snapshots, {"one", "two"})
    moved = ((IPv4Address("203.0.113.5"), 7),)
    await MasterClient(one).publish(moved)
    async with asyncio.timeout(PATIENCE):
        async for directory in snapshots:
            if directory.nodes[bytes.fromhex(info.node)].endpoints == moved:
                break
    await snapshots.aclose()


async def test_revoked_node_is_cut_off_and_forgotten(running: Running, tmp_path: Path) -> None:
    token = await running.token()
    one, two = NodeFiles(tmp_path / "one"), NodeFiles(tmp_path / "two")
    await enrol(one, token, "one", ())
    info = await enrol(two, token, "two", ())
    snapshots = MasterClient(one).snapshots()
    await until(snapshots, {"one", "two"})
    headers = {"Authorization": f"Bearer {two.credential()}"}
    url = f"wss://127.0.0.1:{running.port}/api/v1/node/channel"
    async with connect(url, ssl=running.context(), additional_headers=headers, max_size=None, proxy=None) as channel:
        await channel.recv()
        await running.call("POST", f"/nodes/{info.id}:revoke")
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(drain(channel), 5)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 4403
    await until(snapshots, {"one"})
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, ssl=running.context(), additional_headers=headers, proxy=None):
            pass
    assert refused.value.response.status_code == 403
    await snapshots.aclose()


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer vnn_x_y"}])
async def test_channel_needs_a_credential(running: Running, headers: dict[str, str]) -> None:
    url = f"wss://127.0.0.1:{running.port}/api/v1/node/channel"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, ssl=running.context(), additional_headers=headers, proxy=None):
            pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"{}")["code"] == "unauthorized"


async def test_channel_pushes_what_is_new_then_heartbeats(running: Running, tmp_path: Path) -> None:
    files = NodeFiles(tmp_path / "one")
    await enrol(files, await running.token(), "one", ())
    url = f"wss://127.0.0.1:{running.port}/api/v1/node/channel?since=0"
    headers = {"Authorization": f"Bearer {files.credential()}"}
    async with connect(url, ssl=running.context(), additional_headers=headers, proxy=None) as channel:
        kinds = [json.loads(await channel.recv())["type"] for _ in range(3)]
    assert kinds == ["head", "records", "heartbeat"]


async def test_everything_a_node_keeps_is_private(running: Running, tmp_path: Path) -> None:
    files = NodeFiles(tmp_path / "one")
    await enrol(files, await running.token(), "one", ())
    with contextlib.suppress(TimeoutError):
        await until(MasterClient(files).snapshots(), {"one"})
    paths = [*files.state_dir.iterdir(), *(running.state_dir / "realms").iterdir(), *running.state_dir.glob("*.*")]
    assert {path.name for path in paths} >= {"identity.key", "credential", "directory.db", "tls.key", "master.json"}
    assert [path.name for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert stat.S_IMODE(files.state_dir.stat().st_mode) == 0o700
    sent = files.identity().private_bytes_raw()
    master = b"".join(path.read_bytes() for path in running.state_dir.glob("master.db*"))
    for secret in (sent, files.node_keys().x25519, files.node_keys().mlkem768):
        assert secret not in master and base64.b64encode(secret) not in master


async def test_enrolment_refuses_a_master_that_is_not_the_pinned_one(running: Running, tmp_path: Path) -> None:
    token = await running.token()
    with pytest.raises(NodeError, match="another TLS certificate"):
        await enrol(NodeFiles(tmp_path / "a"), token.model_copy(update={"tls": "00" * 32}), "one", ())
    other_ca = token.model_copy(update={"ca": token.realm + "0" * 32})
    with pytest.raises(NodeError, match="another realm key"):
        await enrol(NodeFiles(tmp_path / "b"), other_ca, "one", ())
    assert not NodeFiles(tmp_path / "b").enrolled
    with pytest.raises(PinError):
        await asyncio.to_thread(fetch_certificate, running.url, "11" * 32)
    with pytest.raises(NodeError, match="can't be reached"):
        await enrol(NodeFiles(tmp_path / "c"), token.model_copy(update={"url": "https://127.0.0.1:1"}), "one", ())


async def test_node_refuses_what_is_older_than_what_it_has_on_disk(running: Running, tmp_path: Path) -> None:
    files = NodeFiles(tmp_path / "one")
    token = await running.token()
    info = await enrol(files, token, "one", ENDPOINT)
    client = MasterClient(files)
    snapshots = client.snapshots()
    await until(snapshots, {"one"})
    old = stored(files, info.node)
    await MasterClient(files).publish(((IPv4Address("203.0.113.5"), 7),))
    await enrol(NodeFiles(tmp_path / "two"), token, "two", ())
    new = await until(snapshots, {"one", "two"})
    await snapshots.aclose()
    client = MasterClient(files)
    first = await anext(client.snapshots())
    assert (first.nodes, first.edges) == (new.nodes, new.edges)
    message = {"type": "records", "from": client.version, "version": client.version + 1, "records": [old]}
    assert client._message(json.dumps(message)) is False
    assert client.refused == {"Rollback": 1}
    assert MasterClient(files).replica.directory(client._clock()).nodes == new.nodes


def stored(files: NodeFiles, node: str) -> Any:
    database = sqlite3.connect(files.state_dir / "directory.db")
    (text,) = database.execute("SELECT document FROM record WHERE node = ?", (node,)).fetchone()
    database.close()
    return json.loads(text)


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b""])
async def test_damaged_directory_on_disk_is_asked_for_again(running: Running, tmp_path: Path, damage: bytes) -> None:
    files = NodeFiles(tmp_path / "one")
    await enrol(files, await running.token(), "one", ())
    first = MasterClient(files).snapshots()
    await until(first, {"one"})
    await first.aclose()
    (files.state_dir / "directory.db").write_bytes(damage)
    again = MasterClient(files)
    assert again.version == 0
    second = again.snapshots()
    await until(second, {"one"})
    await second.aclose()


async def test_one_bad_record_on_disk_costs_only_itself(running: Running, tmp_path: Path) -> None:
    files, token = NodeFiles(tmp_path / "one"), await running.token()
    await enrol(files, token, "one", ())
    two = await enrol(NodeFiles(tmp_path / "two"), token, "two", ())
    first = MasterClient(files).snapshots()
    await until(first, {"one", "two"})
    await first.aclose()
    database = sqlite3.connect(files.state_dir / "directory.db")
    with database:
        database.execute("UPDATE record SET document = replace(document, 'A', 'B') WHERE node = ?", (two.node,))
    database.close()
    again = MasterClient(files)
    assert again.version == 0
    snapshots = again.snapshots()
    assert {node.name for node in (await anext(snapshots)).nodes.values()} == {"one"}
    await until(snapshots, {"one", "two"})
    await snapshots.aclose()


async def test_node_narrows_its_taints_by_itself(running: Running, tmp_path: Path) -> None:
    token = await running.token(roles=["conflux"])
    one, two = NodeFiles(tmp_path / "one"), NodeFiles(tmp_path / "two")
    for files, name in ((one, "one"), (two, "two")):
        info = await enrol(files, token, name, ())
        await running.call("PUT", f"/nodes/{info.id}/taints", {"taints": ["dev"]})
    snapshots = MasterClient(two).snapshots()
    await until(snapshots, {"one", "two"})
    one.wear(frozenset())
    await MasterClient(one)._upload()
    await until(snapshots, {"two"})
    one.wear(None)
    await MasterClient(one)._upload()
    await until(snapshots, {"one", "two"})
    await snapshots.aclose()
    (one.state_dir / "taints.json").write_text("nonsense")
    assert one.worn() == frozenset()


async def test_gap_leads_to_a_resync(running: Running, tmp_path: Path) -> None:
    files = NodeFiles(tmp_path / "one")
    await enrol(files, await running.token(), "one", ())
    client = MasterClient(files)
    with pytest.raises(NodeError, match="changes 0 to 9 are missing"):
        client._message(json.dumps({"type": "records", "from": 9, "version": 10, "records": []}))
    assert client.version == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", "1", '{"type":"records"}', '{"type":"head","head":1}', '{"type":"x"}',
                                  '{"type":"records","from":0,"version":0,"records":[1,{},null]}',
                                  '{"type":"records","from":"a","version":0,"records":[]}',
                                  '{"type":"heartbeat","version":"x","time":0}'])  # fmt: skip
async def test_nonsense_from_the_master_is_never_fatal(running: Running, tmp_path: Path, text: str) -> None:
    files = NodeFiles(tmp_path / "one")
    await enrol(files, await running.token(), "one", ())
    assert MasterClient(files)._message(text) is False


def test_init_is_done_once_and_never_over_plain_http_to_the_world(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="loopback"):
        init_master(tmp_path / "a", "http://192.0.2.1:80")
    with pytest.raises(SetupError, match="no path"):
        init_master(tmp_path / "a", "https://x/y")
    init_master(tmp_path / "a", "https://127.0.0.1:1")
    with pytest.raises(SetupError, match="already holds a Master"):
        init_master(tmp_path / "a", "https://127.0.0.1:1")
    with pytest.raises(SetupError, match="master init"):
        load_settings(tmp_path / "b")


@pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (1, [1]), (PIECE, [PIECE]), (2 * PIECE + 1, [PIECE, PIECE, 1])])
async def test_the_version_comes_with_the_last_of_several_messages(count: int, sizes: list[int]) -> None:
    """Who is cut off in between says where it stood, and is told all of it again."""
    sent: list[Any] = []

    class Socket:
        async def send_text(self, text: str) -> None:
            sent.append(json.loads(text))

    joined = Channel(b"", 4)
    await _send(cast(WebSocket, Socket()), joined, 9, None, [f'"{number}"' for number in range(count)])
    assert [len(message["records"]) for message in sent] == sizes
    assert [text for message in sent for text in message["records"]] == [str(number) for number in range(count)]
    assert [(message["from"], message["version"]) for message in sent] == [(4, 4)] * (len(sizes) - 1) + [(4, 9)]
    assert joined.sent == 9


async def test_what_comes_in_several_messages_is_written_down_once(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, names = await running.token(), {f"n{number}" for number in range(2 * PIECE + 1)}
    for name in names:
        await enrol(NodeFiles(tmp_path / name), token, name, ())
    client, saved = MasterClient(NodeFiles(tmp_path / "n0")), []
    save = client._disk.save

    def counted(*arguments: Any, **documents: Any) -> None:
        saved.append(len(documents.get("records", ())))
        save(*arguments, **documents)

    monkeypatch.setattr(client._disk, "save", counted)
    async with contextlib.aclosing(client.snapshots()) as snapshots:
        await until(snapshots, names)
    assert [count for count in saved if count] == [len(names)]
    assert len(kept_records(tmp_path / "n0")) == len(names)


async def test_the_beginning_of_an_answer_counts_when_nothing_follows_it(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "SETTLE_AFTER", 0.05)
    client, texts = await with_a_beginning(running, tmp_path)

    class Socket:
        async def recv(self) -> str:
            if not texts:
                await asyncio.sleep(PATIENCE)
            return texts.pop()

    answers = [await client._next(cast(ClientConnection, Socket())) for _ in range(3)]
    assert answers == [False, False, True]
    assert len(kept_records(tmp_path / "one")) == 2


async def test_the_beginning_of_an_answer_counts_while_the_rest_drips(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits from its own coming on, not from the last message's."""
    monkeypatch.setattr(node_module, "SETTLE_AFTER", 0.5)
    client, texts = await with_a_beginning(running, tmp_path)
    for text in texts:
        client._message(text)

    class Socket:
        async def recv(self) -> str:
            await asyncio.sleep(0.2)
            return texts[0]

    answers = [await client._next(cast(ClientConnection, Socket())) for _ in range(4)]
    assert True in answers
    assert len(kept_records(tmp_path / "one")) == 2


async def test_the_beginning_of_an_answer_counts_when_the_channel_breaks(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was revoked in it must not stay for as long as the Master is away."""
    client, texts = await with_a_beginning(running, tmp_path)
    client._directory()  # the data plane has one, from before

    async def broken() -> AsyncIterator[Directory]:
        for text in texts:
            client._message(text)
        raise OSError("gone")
        yield

    monkeypatch.setattr(client, "_channel", broken)
    monkeypatch.setattr(node_module, "BACKOFF_FIRST", 2 * PATIENCE)
    async with contextlib.aclosing(client.snapshots()) as snapshots, asyncio.timeout(PATIENCE):
        await anext(snapshots)  # from disk
        assert {node.name for node in (await anext(snapshots)).nodes.values()} == {"one", "two"}
    assert len(kept_records(tmp_path / "one")) == 2


async def with_a_beginning(running: Running, tmp_path: Path) -> tuple[MasterClient, list[str]]:
    """A node that has only the head, and the records of its realm as messages that are not the last."""
    token = await running.token()
    for name in ("one", "two"):
        await enrol(NodeFiles(tmp_path / name), token, name, ())
    async with contextlib.aclosing(MasterClient(NodeFiles(tmp_path / "two")).snapshots()) as snapshots:
        await until(snapshots, {"one", "two"})
    client = MasterClient(NodeFiles(tmp_path / "one"))
    client._take_head(json.loads(kept_state(tmp_path / "two", "head")))
    records = [json.loads(text) for text in kept_records(tmp_path / "two")]
    return client, [json.dumps({"type": "records", "from": 0, "version": 0, "records": [record]}) for record in records]


def kept_records(state_dir: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(NodeFiles(state_dir).state_dir / "directory.db")) as database:
        return [text for (text,) in database.execute("SELECT document FROM record")]


def kept_state(state_dir: Path, name: str) -> str:
    with contextlib.closing(sqlite3.connect(NodeFiles(state_dir).state_dir / "directory.db")) as database:
        return str(database.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()[0])
