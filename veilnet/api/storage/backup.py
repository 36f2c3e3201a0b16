# SPDX-License-Identifier: Apache-2.0
"""`veilnet master backup` and `restore`: the state directory and the database in one tar of mode 0600."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from veilnet.api.settings import MasterSettings, SetupError, load_settings, save_settings, settings_file
from veilnet.api.storage.copies import check_sqlite, copy_database, restore_database
from veilnet.api.storage.restored import Begun, begin_again, check_time
from veilnet.files import private_directory, write_private

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
DATABASE: Final = "database"
_SMALL: Final = 1 << 20


def back_up(state_dir: Path, target: Path) -> None:
    """While the Master runs. Raises SetupError."""
    settings = load_settings(state_dir)
    if target.exists():
        raise SetupError(f"{target} exists: choose another name")
    with tempfile.TemporaryDirectory(dir=state_dir, prefix=".backup.") as folder:
        copy = Path(folder) / DATABASE
        copy_database(make_url(settings.database_url), copy)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
                _add_text(archive, MANIFEST, json.dumps({"format": FORMAT, "made": int(time.time())}))
                for path in _state_files(settings):
                    archive.add(path, arcname=str(path.relative_to(settings.state_dir)), recursive=False)
                archive.add(copy, arcname=DATABASE)
                file.flush()
                os.fsync(handle)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


@dataclass(frozen=True)
class Restored:
    """`made`: when the backup was, unix seconds."""

    settings: MasterSettings
    made: int
    begun: Begun


def restore(source: Path, state_dir: Path, database_url: str | None = None) -> Restored:
    """Into a directory without a Master; `database_url` to put the data elsewhere. Raises SetupError.

    Blocks, and runs an event loop of its own.
    """
    if settings_file(state_dir).exists():
        raise SetupError(f"{state_dir} already holds a Master: choose another --state-dir")
    try:
        with tarfile.open(source) as archive:
            files = _read(archive)
    except (OSError, tarfile.TarError) as error:
        raise SetupError(f"{source}: not a backup that can be read: {error}") from error
    return _unpack(files, private_directory(state_dir.resolve()), database_url)


def _unpack(files: dict[str, bytes], state_dir: Path, database_url: str | None) -> Restored:
    made = int(json.loads(files.pop(MANIFEST)).get("made", 0))
    check_time(int(time.time()), 0, made)
    old = MasterSettings.model_validate_json(files.pop("master.json"))
    url = database_url or _moved(old.database_url, state_dir)
    with tempfile.TemporaryDirectory(dir=state_dir, prefix=".restore.") as folder:
        copy = Path(folder) / DATABASE
        write_private(copy, files.pop(DATABASE))
        if make_url(url).get_backend_name() == "sqlite" and (wrong := check_sqlite(copy)):
            raise SetupError(f"the database in the backup is damaged: {wrong[0]}")
        restore_database(make_url(url), copy)
    for name, data in files.items():
        private_directory((state_dir / name).parent)
        write_private(state_dir / name, data)
    settings = old.model_copy(update={"state_dir": state_dir, "database_url": url})
    begun = _begin_again(settings)
    save_settings(settings)  # last: without it the directory is no Master's
    return Restored(settings, made, begun)


def _begin_again(settings: MasterSettings) -> Begun:
    try:
        return asyncio.run(begin_again(settings))
    except BaseException as error:
        url = make_url(settings.database_url)
        if url.get_backend_name() == "sqlite":
            Path(url.database or "").unlink()  # so that it can be tried again
        if isinstance(error, SQLAlchemyError | OSError):
            raise SetupError(f"the restored database can't be made ready: {type(error).__name__}: {error}") from error
        raise


def _moved(url: str, state_dir: Path) -> str:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return url
    return f"sqlite+aiosqlite:///{state_dir / Path(parsed.database or 'master.db').name}"


def _state_files(settings: MasterSettings) -> list[Path]:
    names = [settings_file(settings.state_dir), settings.tls_certificate, settings.tls_key, settings.seal_key]
    return [path for path in [*names, *sorted(settings.realms_dir.glob("*"))] if path.is_file()]


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(text.encode()), 0o600
    archive.addfile(info, io.BytesIO(text.encode()))


def _read(archive: tarfile.TarFile) -> dict[str, bytes]:
    """Contents by name. Nothing is unpacked by path, so a hostile archive can't write outside."""
    files: dict[str, bytes] = {}
    for member in archive:
        parts = Path(member.name).parts
        usual = member.name in {MANIFEST, "master.json", "tls.pem", "tls.key", "seal.key"} and member.size <= _SMALL
        key = len(parts) == 2 and parts[0] == "realms" and parts[1] not in {".", ".."} and member.size <= _SMALL
        if not member.isfile() or not (usual or key or member.name == DATABASE):
            raise SetupError(f"backup holds {member.name!r}, which no backup of a Master has")
        found = archive.extractfile(member)
        files[member.name] = found.read() if found else b""
    manifest = json.loads(files.get(MANIFEST, b"{}") or b"{}")
    if manifest.get("format") != FORMAT or not {"master.json", DATABASE} <= files.keys():
        raise SetupError("not a backup of this Master's format")
    return files
