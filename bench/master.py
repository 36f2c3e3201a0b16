# SPDX-License-Identifier: Apache-2.0
"""The Master under a connected fleet: list pages, changes until they are pushed, CPU for a change, memory for a node.

SQLite with 500, 1,000 and 2,000 nodes, then Postgres with three replicas. Of each figure the median of several rounds
counts, on one fleet with its channels open. There are no peers in these rows.
"""

from __future__ import annotations

import asyncio
import os
import resource
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles

from bench.channels import LIST_PER_SECOND, Watched, at_rate
from bench.controller import Replica, populate, replicas
from bench.report import Row, row

CHANGES_PER_SECOND = 50
WARM_UP = 4
SIZES = (500, 1000, 2000)


@dataclass(frozen=True)
class Plan:
    """Seconds of each phase, nodes on Postgres (0: none), and how often changes and lists are gone through."""

    idle: float
    changes: float
    lists: float
    on_postgres: int
    rounds: int = 1


LONG = Plan(20, 20, 25, 10_000)
QUICK = Plan(6, 10, 10, 0)


@dataclass(frozen=True)
class Figures:
    page_ms: float
    push_ms: float
    cpu_ms: float
    load_ms: float
    idle_percent: float
    kib_per_node: float
    pushes_per_change: float


@dataclass(frozen=True)
class Round:
    """What one round of changes alone, then changes and lists together, came to."""

    page_ms: float
    push_ms: float
    cpu_ms: float
    load_ms: float
    pushes_per_change: float


def rows(runs: int, *, quick: bool = False) -> list[Row]:
    """Medians of so many rounds."""
    plan, found = replace(QUICK if quick else LONG, rounds=runs), []
    costs: dict[int, float] = {}
    for size in SIZES:
        figures = _measure(size, plan)
        costs[size] = figures.cpu_ms
        found += _rows(f"SQLite, {size} nodes", figures)
    found.append(row(f"CPU per change, {SIZES[-1]} nodes / {SIZES[0]}", "ratio", costs[SIZES[-1]] / costs[SIZES[0]]))
    found.append(row(f"SQLite, {SIZES[0]} nodes, TLS: memory per connected node", "KiB", _over_tls(SIZES[0])))
    if plan.on_postgres:
        found += _rows(f"Postgres, 3 replicas, {plan.on_postgres} nodes", _on_postgres(plan.on_postgres, plan))
    return found


def _rows(name: str, figures: Figures) -> list[Row]:
    return [
        row(f"{name}: list page of 100, p99", "ms", figures.page_ms),
        row(f"{name}: change to push, p99", "ms", figures.push_ms),
        row(f"{name}: CPU per change", "ms", figures.cpu_ms),
        row(f"{name}: CPU per change of the load itself", "ms", figures.load_ms),
        row(f"{name}: pushes per change", "records", figures.pushes_per_change),
        row(f"{name}: CPU without changes", "% of a core", figures.idle_percent),
        row(f"{name}: memory per connected node", "KiB", figures.kib_per_node),
    ]


def _measure(size: int, plan: Plan) -> Figures:
    with tempfile.TemporaryDirectory(prefix="veilbench") as directory:
        return asyncio.run(_under_load(Path(directory), size, plan))


def _over_tls(size: int) -> float:
    """KiB of a Master for each channel, which is opened and left alone."""

    async def opened(state_dir: Path) -> float:
        fleet = await populate(state_dir, size, tls=True)
        with replicas(state_dir, 1, tls=True) as masters:
            before = masters[0].resident_bytes()
            watched = Watched(fleet, masters, ssl.create_default_context(cafile=state_dir / "tls.pem"))
            await watched.open()
            await asyncio.sleep(WARM_UP)
            try:
                return (masters[0].resident_bytes() - before) / size / 1024
            finally:
                await watched.close()

    _allow_files(size + 1000)
    with tempfile.TemporaryDirectory(prefix="veilbench") as directory:
        return asyncio.run(opened(Path(directory)))


def _on_postgres(size: int, plan: Plan) -> Figures:
    from tests.api.postgres import postgres_programs, running_cluster  # noqa: PLC0415 - only this part needs it

    programs = postgres_programs()
    if programs is None:
        raise RuntimeError("needs PostgreSQL: apt-get install postgresql")
    with running_cluster(programs, durable=True) as cluster, tempfile.TemporaryDirectory(prefix="veilbench") as place:
        url = cluster.url(cluster.new_database())
        return asyncio.run(_under_load(Path(place), size, plan, url, 3))


async def _under_load(state_dir: Path, size: int, plan: Plan, url: str | None = None, count: int = 1) -> Figures:
    _allow_files(size + 1000)
    fleet = await populate(state_dir, size, url)
    _say(f"{size} nodes are in the database, load {os.getloadavg()[0]:.1f}")
    with replicas(state_dir, count) as masters:
        before = sum(master.resident_bytes() for master in masters)
        watched = Watched(fleet, masters)
        try:
            await watched.open()
            _say(f"{size} channels are open")
            return await _phases(watched, plan, masters, before)
        finally:
            await watched.close()


async def _phases(watched: Watched, plan: Plan, masters: Sequence[Replica], before: int) -> Figures:
    watched.sign(int(CHANGES_PER_SECOND * (WARM_UP + plan.rounds * (plan.changes + plan.lists))))
    first = at_rate(LIST_PER_SECOND, WARM_UP, watched.read_page)  # each Master hashes a token once
    await asyncio.gather(first, at_rate(CHANGES_PER_SECOND, WARM_UP, watched.change))  # connections, caches, code
    await asyncio.sleep(1)
    size, memory = len(watched.fleet.members), sum(master.resident_bytes() for master in masters)
    idle = await _cpu(masters, asyncio.sleep(plan.idle)) / plan.idle
    rounds = [await _round(watched, plan, masters, idle) for _ in range(plan.rounds)]
    if watched.failed or watched.lost:
        raise RuntimeError(f"failed: {watched.failed[:3]}, lost: {len(watched.lost)} channels {watched.lost[:3]}")
    of = {name: median(getattr(each, name) for each in rounds) for name in Round.__dataclass_fields__}
    return Figures(idle_percent=100 * idle, kib_per_node=(memory - before) / size / 1024, **of)


async def _round(watched: Watched, plan: Plan, masters: Sequence[Replica], idle: float) -> Round:
    watched.delays.clear()
    count, began, load = int(CHANGES_PER_SECOND * plan.changes), time.monotonic(), time.process_time()
    busy = await _cpu(masters, _settled(at_rate(CHANGES_PER_SECOND, plan.changes, watched.change)))
    own, load = busy - idle * (time.monotonic() - began), time.process_time() - load
    pushes = len(watched.delays) / count
    reading = asyncio.create_task(at_rate(LIST_PER_SECOND, plan.lists, watched.read_page))
    await at_rate(CHANGES_PER_SECOND, plan.lists, watched.change)
    pages = await reading
    await asyncio.sleep(1)
    found = Round(_p99_ms(pages), _p99_ms(watched.delays), 1000 * own / count, 1000 * load / count, pushes)
    _say(f"list p99 {found.page_ms:.0f} ms, push p99 {found.push_ms:.0f} ms, CPU {found.cpu_ms:.1f} ms")
    return found


async def _cpu(masters: Sequence[Replica], during: Awaitable[object]) -> float:
    """CPU seconds of all Masters."""
    before = sum(master.cpu_seconds() for master in masters)
    await during
    return sum(master.cpu_seconds() for master in masters) - before


async def _settled(work: Awaitable[object]) -> None:
    await work
    await asyncio.sleep(1)


def _p99_ms(seconds: Sequence[float]) -> float:
    return 1000 * quantiles(seconds, n=100)[98]


def _allow_files(count: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        raise RuntimeError(f"needs {count} open files, allowed are {hard}: raise it (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
