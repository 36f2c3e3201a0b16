# SPDX-License-Identifier: Apache-2.0
"""`veilnet master db doctor`: is what the Master keeps whole, and if not, what is to be done. Changes nothing."""

from __future__ import annotations

import base64
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from veilnet.api.ca import CaStore
from veilnet.api.db import make_engine, read_session
from veilnet.api.models import Base
from veilnet.api.realms.repository import RealmRepository
from veilnet.api.settings import MasterSettings, SetupError
from veilnet.api.storage import schema
from veilnet.api.storage.copies import check_sqlite

SPACE_MIN: Final = 256 << 20


@dataclass(frozen=True)
class Finding:
    check: str
    ok: bool
    found: str
    remedy: str = ""


async def examine(settings: MasterSettings) -> list[Finding]:
    """Every check, also when one fails."""
    findings = [*_files(settings), _space(settings)]
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        findings.append(_sqlite(Path(url.database or "")))
    engine = make_engine(settings.database_url)
    try:
        async with engine.connect() as connection:
            revision = await connection.run_sync(_revision)
            findings += [revision, *(await connection.run_sync(lambda sync: list(_tables(sync))))]
        if revision.ok:
            async with read_session(engine) as session:
                findings += [finding async for finding in _realms(session, settings)]
    except (SQLAlchemyError, OSError, SetupError) as error:
        remedy = "is the database there, and may this user open it? See the URL in master.json"
        findings.append(Finding("database", ok=False, found=f"{type(error).__name__}: {error}"[:300], remedy=remedy))
    finally:
        await engine.dispose()
    return findings


def _files(settings: MasterSettings) -> Iterator[Finding]:
    secret = [settings.state_dir / "master.json", settings.tls_key, *settings.realms_dir.glob("*")]
    wide = [path for path in secret if path.exists() and path.stat().st_mode & 0o077]
    found = ", ".join(f"{path} is {path.stat().st_mode & 0o777:04o}" for path in wide)
    yield Finding("file modes", not wide, found or "secrets are 0600", "chmod 600 these files" if wide else "")


def _space(settings: MasterSettings) -> Finding:
    free = shutil.disk_usage(settings.state_dir).free
    remedy = "make room: a full disk refuses every change" if free < SPACE_MIN else ""
    return Finding("disk space", free >= SPACE_MIN, f"{free >> 20} MiB free on {settings.state_dir}", remedy)


def _sqlite(path: Path) -> Finding:
    wrong = check_sqlite(path)
    remedy = "stop the Master and restore a backup: `veilnet master restore`" if wrong else ""
    return Finding("integrity", not wrong, "; ".join(wrong[:3]) or "pages and references are whole", remedy)


def _revision(connection: Connection) -> Finding:
    now, wanted = schema.current(connection), schema.head()
    if now == wanted:
        return Finding("schema", ok=True, found=f"revision {now}")
    if now is not None and not schema.known(now):
        return Finding("schema", False, f"revision {now} is of a newer Master", "install that Master again")
    return Finding("schema", False, f"revision {now}, this Master wants {wanted}", "`veilnet master serve` upgrades it")


def _tables(connection: Connection) -> Iterator[Finding]:
    """Tables and columns against the models; foreign tables are named, and left alone by every migration."""
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    wanted = Base.metadata.tables
    missing = [name for name in wanted if name not in present]
    missing += [
        f"{name}.{column.name}"
        for name, table in wanted.items()
        if name in present
        for column in table.columns
        if column.name not in {item["name"] for item in inspector.get_columns(name)}
    ]
    remedy = "restore a backup: the schema does not match its revision" if missing else ""
    yield Finding("tables", not missing, f"missing: {', '.join(missing)}" if missing else "all there", remedy)
    foreign = sorted(present - set(wanted) - {"alembic_version", "sqlite_sequence"})
    if foreign:
        yield Finding("foreign tables", ok=True, found=f"not VeilNet's, left alone: {', '.join(foreign)}")


async def _realms(session: AsyncSession, settings: MasterSettings) -> AsyncIterator[Finding]:
    store, realms = CaStore(settings.realms_dir), RealmRepository(session)
    for realm in await realms.every():
        try:
            whole = store.key(realm.wire_id).public_key().public_bytes_raw() == base64.b64decode(realm.ca_key)
            found = "matches" if whole else "is another key than the realm's"
        except (SetupError, ValueError) as error:
            whole, found = False, str(error)
        remedy = "" if whole else f"put {settings.realms_dir / realm.wire_id}.key back from a backup"
        yield Finding(f"CA key of {realm.name}", whole, found, remedy)
