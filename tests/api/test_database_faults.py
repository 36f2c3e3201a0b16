# SPDX-License-Identifier: Apache-2.0
"""A database that is locked, full, read-only, gone or half migrated: 503 with Retry-After, and nothing half done."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tests.api.conftest import Database, Master
from tests.api.postgres import Cluster
from veilnet.api.db import write_session
from veilnet.api.errors import Conflict

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""A database that is taken away leaves its drivers' sockets open until they are collected, which is done here."""


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


Fault = Callable[[Master], None]


def on_every_connection(master: Master, *pragmas: str) -> None:
    """The faults are SQLite's own; the pragmas bring them about, whenever a connection leaves the pool."""

    def checkout(connection: Any, *_: object) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    event.listen(master.context.engine.sync_engine, "checkout", checkout)


def read_only(master: Master) -> None:
    on_every_connection(master, "query_only=ON")


def full(master: Master) -> None:
    on_every_connection(master, "max_page_count=1")  # SQLite takes it as: no page more than there are


async def refused(master: Master, method: str, path: str, **arguments: Any) -> None:
    response = await master.client.request(method, f"/api/v1{path}", headers=master.admin, **arguments)
    assert response.status_code == 503, response.text
    problem = response.json()
    assert problem["code"] == "unavailable" and response.headers["retry-after"] == "2"
    assert "sqlite" not in response.text.lower() and "asyncpg" not in response.text.lower()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("fault", [read_only, full])
async def test_a_database_that_takes_no_more(master: Master, fault: Fault) -> None:
    await master.realm("before")
    fault(master)
    for number in range(40):  # until the free pages that there are have been used
        response = await master.client.post(
            "/api/v1/groups", headers=master.admin, json={"name": f"group-{number}", "description": "x" * 200}
        )
        if response.status_code == 503:
            break
        assert response.status_code == 201, response.text
    await refused(master, "POST", "/realms", json={"name": "during"})
    names = [realm["name"] for realm in (await master.request("GET", "/realms"))["items"]]
    assert names == ["before"]  # reading goes on


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB, on which the Master's files are."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "veil-small", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.mark.root
@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_disk_that_is_full_and_has_room_again(master: Master, tmp_path: Path) -> None:
    """Nobody has to do anything about the Master: it goes on when there is room."""
    await master.realm("before")
    with contextlib.suppress(OSError), (tmp_path / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    names = []
    for number in range(40):
        body = {"name": f"group-{number}", "description": "x" * 200}
        response = await master.client.post("/api/v1/groups", headers=master.admin, json=body)
        if response.status_code == 503:
            break
        names.append(body["name"])
    await refused(master, "POST", "/realms", json={"name": "during"})
    assert [realm["name"] for realm in (await master.request("GET", "/realms"))["items"]] == ["before"]
    (tmp_path / "filler").unlink()
    await master.realm("after")
    held = await master.request("GET", "/groups?limit=100")
    assert [group["name"] for group in held["items"]] == names, "what was acknowledged, and nothing else"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_database_that_somebody_holds_locked(
    master: Master, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await master.realm("before")
    monkeypatch.setattr("veilnet.api.sqlite.BUSY_MS", 50)
    on_every_connection(master, "busy_timeout=50")
    with closing(sqlite3.connect(tmp_path / "master.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await refused(master, "POST", "/realms", json={"name": "during"})
        other.execute("ROLLBACK")
    await master.realm("after")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_writers_that_queue_behind_a_lock_are_told_together(
    master: Master, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one after the other, and who has waited for its turn waits no more for the lock; reading goes on."""
    await master.realm("before")
    monkeypatch.setattr("veilnet.api.sqlite.BUSY_MS", 500)
    on_every_connection(master, "busy_timeout=500")
    with closing(sqlite3.connect(tmp_path / "master.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        writers = [refused(master, "POST", "/realms", json={"name": f"during-{number}"}) for number in range(20)]
        _, listed = await asyncio.gather(asyncio.gather(*writers), master.request("GET", "/realms"))
        assert time.monotonic() - began < 20 * 0.5 / 4
        other.execute("ROLLBACK")
    assert [realm["name"] for realm in listed["items"]] == ["before"]
    await master.realm("after")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_queue_that_moves_may_be_long(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty writers take longer than one may wait, and all have their turn, also if most of them refuse."""
    monkeypatch.setattr("veilnet.api.sqlite.BUSY_MS", 200)

    async def write(number: int) -> None:
        async with write_session(master.context.engine, master.context.hub):
            await asyncio.sleep(0.02)
            if number < 30:
                raise Conflict("name-taken", "refused")

    began = time.monotonic()
    found = await asyncio.gather(*(write(number) for number in range(40)), return_exceptions=True)
    assert [type(each) for each in found] == [Conflict] * 30 + [type(None)] * 10
    assert time.monotonic() - began > 0.2


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_writer_that_gives_up_leaves_the_queue(master: Master) -> None:
    engine, hub = master.context.engine, master.context.hub

    async def write() -> None:
        async with write_session(engine, hub):
            pass

    async with write_session(engine, hub):
        waiting = [asyncio.create_task(write()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(found) for found in done] == [type(None), asyncio.CancelledError, type(None)]
    await asyncio.wait_for(write(), 60)


async def test_a_database_without_a_table(master: Master, database: Database) -> None:
    async with master.context.engine.begin() as connection:
        await connection.exec_driver_sql("DROP TABLE group_members")
    user = await master.request("POST", "/users", json={"name": "u"}, status=201)
    headers = {**master.admin, "If-Match": "*"}
    response = await master.client.request("DELETE", f"/api/v1/users/{user['id']}", headers=headers)
    assert response.status_code == 503, response.text
    assert (await master.request("GET", f"/users/{user['id']}"))["name"] == "u"


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_a_postgres_that_is_gone_and_comes_back(master: Master, cluster: Cluster) -> None:
    await master.realm("before")
    name = str(master.context.engine.url.database)
    cluster.psql("postgres", f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
    cluster.psql("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608
    await refused(master, "GET", "/realms")
    await refused(master, "POST", "/realms", json={"name": "during"})
    cluster.psql("postgres", f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
    assert [realm["name"] for realm in (await master.request("GET", "/realms"))["items"]] == ["before"]
    await master.realm("after")


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_a_postgres_that_is_read_only(master: Master, cluster: Cluster) -> None:
    name = str(master.context.engine.url.database)
    cluster.psql("postgres", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await master.context.engine.dispose()
    await refused(master, "POST", "/realms", json={"name": "during"})
    assert (await master.request("GET", "/realms"))["items"] == []
