# SPDX-License-Identifier: Apache-2.0
"""A Postgres of our own for the tests: made by initdb in a temporary directory, on a unix socket, gone at the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from veilnet.api.db import make_engine
from veilnet.api.storage.upgrade import bring_up_to_date

_TEMPLATE: Final = "veil_template"
# Durability costs time and the data is thrown away; more connections than the replicas of any test open.
_FAST: Final = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
_OPTIONS: Final = ("listen_addresses=", "max_connections=200", "shared_buffers=64MB")


def postgres_programs() -> Path | None:
    """Directory of initdb and pg_ctl, the newest version's."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    return found[-1].parent if found else None


class Cluster:
    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs = programs
        self.directory = directory
        self._count = 0

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://postgres@/{database}?host={self.directory}"

    def run(self, program: str, *arguments: str) -> str:
        """Output of a program of Postgres; what runs the server as the user that owns the cluster, it refuses root."""
        command = [str(self._programs / program), *arguments]
        if os.geteuid() == 0 and program in {"initdb", "pg_ctl"}:
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", timeout=60)
        assert done.returncode == 0, f"{program}: {done.stderr}{done.stdout}"
        return done.stdout

    def psql(self, database: str, query: str) -> str:
        return self.run("psql", "-h", str(self.directory), "-U", "postgres", "-qtAX", "-d", database, "-c", query)

    def new_database(self) -> str:
        """Name of a fresh database with our schema."""
        self._count += 1
        name = f"veil_{self._count}"
        self.psql("postgres", f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return name

    def drop(self, name: str) -> None:
        self.psql("postgres", f"DROP DATABASE {name} WITH (FORCE)")

    def dump(self, name: str) -> bytes:
        return self.run("pg_dump", "-h", str(self.directory), "-U", "postgres", name).encode()

    def make_template(self) -> None:
        self.psql("postgres", f"CREATE DATABASE {_TEMPLATE}")
        asyncio.run(self._migrate())

    async def _migrate(self) -> None:
        engine = make_engine(self.url(_TEMPLATE))
        await bring_up_to_date(engine, self.directory)
        await engine.dispose()


@contextmanager
def running_cluster(programs: Path, *, durable: bool = False) -> Iterator[Cluster]:
    directory = Path(tempfile.mkdtemp(prefix="veilpg", dir="/tmp"))
    cluster = Cluster(programs, directory)
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres")
        cluster.run("initdb", "-D", f"{directory}/data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")
        wanted = (*_OPTIONS, *(() if durable else _FAST), f"unix_socket_directories={directory}")
        options = " ".join(f"-c {option}" for option in wanted)
        # -w waits until it accepts; -l takes its output away, or pg_ctl's pipe would stay open
        cluster.run("pg_ctl", "-D", f"{directory}/data", "-l", f"{directory}/log", "-o", options, "-w", "start")
        try:
            cluster.make_template()
            yield cluster
        finally:
            cluster.run("pg_ctl", "-D", f"{directory}/data", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
