# SPDX-License-Identifier: Apache-2.0
"""Upgrades of databases that have lived, backup and restore, and what the doctor says of a damaged one."""

from __future__ import annotations

import os
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tests.api.conftest import make_settings
from veilnet.api.app import create_app
from veilnet.api.bootstrap import init_master
from veilnet.api.db import make_engine, writing_connection
from veilnet.api.settings import MasterSettings, SetupError, load_settings
from veilnet.api.storage import schema
from veilnet.api.storage.backup import back_up, restore
from veilnet.api.storage.doctor import Finding, examine
from veilnet.api.storage.upgrade import KEEP, bring_up_to_date

DUMPS = Path(__file__).parent / "dumps"
ORPHAN = """PRAGMA foreign_keys=OFF;
INSERT INTO edges VALUES ('edg_orphan', 'rlm_01ka0000000000000000000000', 'nod_0', 'nod_gone', 1);"""


async def old_database(path: Path, revision: str, *, orphan: bool = False) -> str:
    """URL of a SQLite file with the schema of `revision` and its stored dump."""
    url = f"sqlite+aiosqlite:///{path}"
    engine = make_engine(url)
    async with writing_connection(engine) as connection:
        await connection.run_sync(schema.upgrade, revision)
    await engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        database.executescript((DUMPS / f"{revision}.sql").read_text() + (ORPHAN if orphan else ""))
        database.commit()
    return url


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


@pytest.mark.parametrize("revision", sorted(path.stem for path in DUMPS.glob("*.sql")))
@pytest.mark.parametrize("orphan", [False, True])
async def test_a_dirty_database_is_upgraded_and_keeps_what_it_had(tmp_path: Path, revision: str, orphan: bool) -> None:
    path = tmp_path / "master.db"
    engine = make_engine(await old_database(path, revision, orphan=orphan))
    await bring_up_to_date(engine, tmp_path / "backups")
    async with engine.connect() as connection:
        assert await connection.run_sync(schema.current) == schema.head()
    await engine.dispose()
    assert rows(path, "SELECT id, note FROM backup_of_nodes_2026") == [("x", "somebody's")]
    assert [row[0] for row in rows(path, "SELECT name FROM realms ORDER BY id")] == ["lab", "two"]
    assert rows(path, "SELECT count(*), sum(revoked_at IS NULL) FROM nodes") == [(3, 2)]
    assert rows(path, "SELECT rack FROM nodes WHERE name = 'g1'") == [("r7",)]
    copies = list((tmp_path / "backups").glob("*"))
    if revision != schema.head():
        assert len(copies) == 1 and copies[0].stat().st_mode & 0o777 == 0o600
        assert rows(copies[0], "SELECT version_num FROM alembic_version") == [(revision,)]


async def test_an_upgrade_that_fails_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "master.db"
    revision = schema.revisions()[0]
    engine = make_engine(await old_database(path, revision))
    before = rows(path, "SELECT name, sql FROM sqlite_master ORDER BY name")

    def half(connection: Connection, _: str = "head") -> None:
        connection.exec_driver_sql("CREATE TABLE half_made (id TEXT)")
        connection.exec_driver_sql("UPDATE realms SET name = 'broken' || id")
        raise RuntimeError("power gone")

    monkeypatch.setattr(schema, "upgrade", half)
    monkeypatch.setattr(schema, "head", lambda: "another")
    with pytest.raises(RuntimeError, match="power gone"):
        await bring_up_to_date(engine, tmp_path / "backups")
    await engine.dispose()
    assert rows(path, "SELECT name, sql FROM sqlite_master ORDER BY name") == before
    assert rows(path, "SELECT name FROM realms ORDER BY id") == [("lab",), ("two",)]


async def test_a_database_of_a_newer_master_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.db"
    engine = make_engine(await old_database(path, schema.revisions()[0]))
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = '29991231_0001'")
        database.commit()
    with pytest.raises(SetupError, match="written by a newer one"):
        await bring_up_to_date(engine, tmp_path / "backups")
    await engine.dispose()
    assert not (tmp_path / "backups").exists()


async def test_without_room_for_a_copy_nothing_is_upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "master.db"
    engine = make_engine(await old_database(path, schema.revisions()[0]))
    monkeypatch.setattr(schema, "head", lambda: "another")
    (tmp_path / "backups").write_text("in the way")
    with pytest.raises((SetupError, FileExistsError)):
        await bring_up_to_date(engine, tmp_path / "backups")
    await engine.dispose()
    assert rows(path, "SELECT version_num FROM alembic_version") == [(schema.revisions()[0],)]


async def test_only_the_newest_copies_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(await old_database(tmp_path / "master.db", schema.revisions()[0]))
    folder = tmp_path / "backups"
    folder.mkdir()
    for number in range(KEEP + 2):
        (folder / f"2025010{number}T000000Z-x.db").touch()
    monkeypatch.setattr(schema, "head", lambda: "another")
    monkeypatch.setattr(schema, "upgrade", lambda connection: None)
    await bring_up_to_date(engine, folder)
    await engine.dispose()
    assert len(list(folder.iterdir())) == KEEP
    assert not (folder / "20250100T000000Z-x.db").exists()


@pytest.fixture
def made(tmp_path: Path) -> MasterSettings:
    init_master(tmp_path / "master", "http://127.0.0.1:8443")
    settings = load_settings(tmp_path / "master")
    (settings.realms_dir).mkdir(mode=0o700)
    key = settings.realms_dir / "00.key"
    key.write_bytes(bytes(32))
    key.chmod(0o600)
    return settings


def test_backup_and_restore(made: MasterSettings, tmp_path: Path) -> None:
    back_up(made.state_dir, tmp_path / "b.tar")
    assert (tmp_path / "b.tar").stat().st_mode & 0o777 == 0o600
    again = restore(tmp_path / "b.tar", tmp_path / "other").settings
    assert load_settings(tmp_path / "other") == again
    assert again.database_url.endswith("/other/master.db")
    assert (again.realms_dir / "00.key").read_bytes() == bytes(32)
    modes = {path.stat().st_mode & 0o777 for path in again.state_dir.rglob("*") if path.is_file()}
    assert modes == {0o600}
    with (
        closing(sqlite3.connect(made.state_dir / "master.db")) as one,
        closing(sqlite3.connect(again.state_dir / "master.db")) as other,
    ):
        changed = set(other.iterdump()) - set(one.iterdump())
    assert {line.split('"')[1] for line in changed} == {"audit_events", "counters", "outbox"}  # it says so itself
    assert not list(made.state_dir.glob(".backup.*")) and not list(again.state_dir.glob(".restore.*"))


def test_neither_overwrites(made: MasterSettings, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_text("mine")
    with pytest.raises(SetupError, match="exists"):
        back_up(made.state_dir, tmp_path / "b.tar")
    (tmp_path / "b.tar").unlink()
    back_up(made.state_dir, tmp_path / "b.tar")
    with pytest.raises(SetupError, match="already holds a Master"):
        restore(tmp_path / "b.tar", made.state_dir)


def test_a_backup_cut_short_or_hostile_is_refused(made: MasterSettings, tmp_path: Path) -> None:
    back_up(made.state_dir, tmp_path / "b.tar")
    whole = (tmp_path / "b.tar").read_bytes()
    for length in (0, 100, 512, len(whole) // 2):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(SetupError):
            restore(tmp_path / "cut.tar", tmp_path / f"cut{length}")
        assert not (tmp_path / f"cut{length}" / "master.json").exists()
    for name in ("../evil", "/etc/evil", "realms/../../evil", "realms/a/b", "extra"):
        with tarfile.open(tmp_path / "evil.tar", "w") as archive:
            archive.add(made.state_dir / "master.json", arcname=name)
        with pytest.raises(SetupError, match="no backup of a Master has"):
            restore(tmp_path / "evil.tar", tmp_path / "evil")


def test_a_damaged_database_is_not_restored(made: MasterSettings, tmp_path: Path) -> None:
    back_up(made.state_dir, tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as archive:
        at = archive.getmember("database").offset_data
    data = bytearray((tmp_path / "b.tar").read_bytes())
    data[at + 4096 : at + 12288] = os.urandom(8192)
    (tmp_path / "b.tar").write_bytes(data)
    with pytest.raises(SetupError, match="damaged"):
        restore(tmp_path / "b.tar", tmp_path / "other")
    assert not (tmp_path / "other" / "master.json").exists()


def failed(findings: list[Finding]) -> set[str]:
    return {finding.check for finding in findings if not finding.ok}


async def test_the_doctor_finds_a_whole_database_whole(made: MasterSettings) -> None:
    findings = await examine(made)
    assert failed(findings) == set(), findings
    assert {"schema", "tables", "integrity", "file modes", "disk space"} <= {finding.check for finding in findings}


async def test_the_doctor_names_what_is_wrong(made: MasterSettings) -> None:
    made.tls_key.write_text("key")
    made.tls_key.chmod(0o644)
    path = made.state_dir / "master.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            "CREATE TABLE theirs (x); PRAGMA foreign_keys=OFF;"
            "INSERT INTO directory_changes (realm_id) VALUES ('rlm_gone');"
        )
    findings = await examine(made)
    assert failed(findings) == {"file modes", "integrity"}
    assert any("theirs" in finding.found for finding in findings)
    assert all(finding.remedy for finding in findings if not finding.ok)
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE directory_changes")
        database.execute("UPDATE alembic_version SET version_num = 'x'")
        database.commit()
    assert {"schema", "tables"} <= failed(await examine(made))


async def test_the_doctor_on_a_database_that_is_not_there(made: MasterSettings) -> None:
    gone = made.model_copy(update={"database_url": f"sqlite+aiosqlite:///{made.state_dir}/none/master.db"})
    assert {"integrity", "database"} <= failed(await examine(gone))


async def test_a_start_that_fails_closes_its_connections(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "master.db")) as database:
        database.executescript("CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES ('x');")
    app = create_app(make_settings(tmp_path))
    with pytest.raises(SetupError, match="does not know"):
        async with app.router.lifespan_context(app):
            pass
    assert app.state.context.engine.pool.checkedin() == 0
