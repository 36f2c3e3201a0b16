# SPDX-License-Identifier: Apache-2.0
"""A consistent copy of the whole database in one file, and back. Blocks."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import URL

from veilnet.api.settings import SetupError
from veilnet.files import write_private


def copy_database(url: URL, target: Path) -> None:
    """While a Master may be writing. Raises SetupError; then `target` does not exist."""
    write_private(target, b"")  # 0600 from the first byte; both tools write into an empty file
    try:
        if url.get_backend_name() == "sqlite":
            _copy_sqlite(Path(url.database or ""), target)
        else:
            _run(url, ["pg_dump", "--format=custom", "--no-owner", f"--file={target}"], "postgresql-client")
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def restore_database(url: URL, source: Path) -> None:
    """Into a database that does not exist yet (SQLite) or is empty (Postgres). Raises SetupError."""
    if url.get_backend_name() != "sqlite":
        arguments = ["pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", str(source)]
        _run(url, [*arguments[:-1], f"--dbname={url.database}", arguments[-1]], "postgresql-client")
        return
    target = Path(url.database or "")
    if target.exists():
        raise SetupError(f"{target} exists: move it away first")
    write_private(target, source.read_bytes())


def check_sqlite(path: Path) -> list[str]:
    """What SQLite's own checks find wrong in a file: damaged pages, then rows whose parent is missing."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            damage = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)") if row[0] != "ok"]
            orphans = connection.execute("PRAGMA foreign_key_check").fetchmany(20)
    except sqlite3.Error as error:
        return [f"{path}: {error}"]
    return damage + [f"{table}, row {row}: its row in {parent} is missing" for table, row, parent, _ in orphans]


def _copy_sqlite(path: Path, target: Path) -> None:
    if not path.exists():
        raise SetupError(f"{path} does not exist: is this the Master's state directory?")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as error:
        raise SetupError(f"{path}: can't be copied to {target}: {error}") from error


def _run(url: URL, command: list[str], package: str) -> None:
    """One of Postgres' own tools. Where and as whom goes by environment: every user can read arguments."""
    tool = shutil.which(command[0])
    if tool is None:
        raise SetupError(f"{command[0]} is missing: install {package}, or make a backup by your own means")
    environment = os.environ | {
        name: str(value)
        for name, value in {
            "PGHOST": url.query.get("host", url.host),
            "PGPORT": url.query.get("port", url.port),
            "PGUSER": url.username,
            "PGPASSWORD": url.password,
            "PGDATABASE": url.database,
        }.items()
        if value is not None
    }
    done = subprocess.run([tool, *command[1:]], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
