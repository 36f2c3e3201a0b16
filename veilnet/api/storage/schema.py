# SPDX-License-Identifier: Apache-2.0
"""Revisions of the schema: which one a database has, which one this code wants, and the way from one to the other."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import Connection

from veilnet.api.settings import SetupError

MIGRATIONS: Final = Path(__file__).parents[1] / "migrations"


def current(connection: Connection) -> str | None:
    """Revision that the database says it has; None for an empty one. Raises SetupError when it names several."""
    heads = MigrationContext.configure(connection).get_current_heads()
    if len(heads) > 1:
        raise SetupError(f"the database names {len(heads)} schema revisions at once: restore it from a backup")
    return heads[0] if heads else None


def head() -> str:
    found = _scripts().get_current_head()
    if found is None:
        raise SetupError(f"{MIGRATIONS} holds no migration: install VeilNet again")
    return found


def known(revision: str) -> bool:
    try:
        return _scripts().get_revision(revision) is not None
    except (ResolutionError, CommandError):
        return False


def revisions() -> list[str]:
    """Every revision, oldest first."""
    return [script.revision for script in reversed(list(_scripts().walk_revisions()))]


def upgrade(connection: Connection, revision: str = "head") -> None:
    """In the caller's transaction: a migration that fails leaves the database as it was."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config
