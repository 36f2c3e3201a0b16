# SPDX-License-Identifier: Apache-2.0
"""Two Masters on one Postgres: they wake each other, and the outbox misses nothing however many write at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import Master, make_settings
from tests.api.postgres import Cluster
from tests.patience import PATIENCE
from veilnet.api import listen
from veilnet.api.app import create_app
from veilnet.api.db import read_session
from veilnet.api.outbox.repository import OutboxRepository

pytestmark = pytest.mark.parametrize("database", ["postgres"], indirect=True)


async def test_a_commit_wakes_the_other_replica(master: Master) -> None:
    other = create_app(master.context.settings, master.clock)
    async with other.router.lifespan_context(other):
        with other.state.context.hub.waiting("outbox") as woken:
            async with asyncio.timeout(PATIENCE):
                await woken.wait()  # set once the listener stands
                woken.clear()
                await master.realm()
                await woken.wait()


async def test_a_listener_that_was_cut_off_stands_again_at_once(
    master: Master, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "_RETRY_SECONDS", 0.1)
    other = create_app(master.context.settings, master.clock)
    async with other.router.lifespan_context(other), asyncio.timeout(PATIENCE):
        with other.state.context.hub.waiting("outbox") as woken:
            await woken.wait()
            for _ in range(2):
                woken.clear()
                query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
                assert "t" in await asyncio.to_thread(cluster.psql, "postgres", query)
                await woken.wait()  # it stands again, and tells everybody to look
            woken.clear()
            await master.realm()
            await woken.wait()


async def test_events_become_visible_in_order(master: Master, tmp_path: Path) -> None:
    """A reader that goes by the highest id it saw gets every event once, while two replicas write."""
    settings = make_settings(tmp_path / "two", master.database.url)
    other = create_app(settings, master.clock)
    transport = httpx.ASGITransport(other, raise_app_exceptions=False)
    async with (
        other.router.lifespan_context(other),
        httpx.AsyncClient(transport=transport, base_url="https://b") as two,
    ):
        seen: list[int] = []

        async def read() -> None:
            while len(seen) < 60:
                async with read_session(master.context.engine) as session:
                    seen.extend(event.id for event in await OutboxRepository(session).after(max(seen, default=0), 500))
                await asyncio.sleep(0)

        at_once = asyncio.Semaphore(8)

        async def write(client: httpx.AsyncClient, number: int) -> None:
            async with at_once:
                answer = await client.post("/api/v1/users", headers=master.admin, json={"name": f"user-{number}"})
            assert answer.status_code == 201, answer.text

        async with asyncio.timeout(PATIENCE):
            writers = (write(two if number % 2 else master.client, number) for number in range(60))
            await asyncio.gather(read(), *writers)
    assert seen == list(range(1, 61))
