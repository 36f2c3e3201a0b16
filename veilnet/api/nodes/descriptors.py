# SPDX-License-Identifier: Apache-2.0
"""Descriptors that nodes send, written in groups: what comes while one commit is under way shares the next.

A commit waits for the disk. One for every node would have a fleet stand in line; a group waits once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from veilnet.api.db import note_change, write_session
from veilnet.api.errors import ApiError, Conflict, Forbidden
from veilnet.api.hub import Hub
from veilnet.api.nodes.repository import Described, NodeRepository
from veilnet.api.snapshots.repository import DirectoryRepository

GROUP: Final = 64


def check_next(held: Described | None, row_id: str, serial: int) -> Described:
    """What is held, if a descriptor of this serial may follow it. Raises Forbidden or Conflict."""
    check_there(held, row_id)
    assert held is not None
    if serial <= held.descriptor_serial:
        raise Conflict("descriptor-stale", f"serial {serial} is not above {held.descriptor_serial}")
    return held


def check_there(held: Described | None, row_id: str) -> None:
    if held is None or held.revoked_at is not None:
        raise Forbidden("node-revoked", f"node {row_id} was revoked")
    if held.expired_at is not None:
        raise Forbidden("node-expired", f"node {row_id} has expired")


@dataclass
class _Entry:
    row_id: str
    document: dict[str, Any]
    serial: int
    expires: int
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class DescriptorWriter:
    def __init__(self, engine: AsyncEngine, hub: Hub) -> None:
        self._engine, self._hub = engine, hub
        self._waiting: list[_Entry] = []
        self._writing = asyncio.Lock()

    async def put(self, row_id: str, document: dict[str, Any], serial: int, expires: int) -> None:
        """Returns when it is committed. Raises Forbidden or Conflict for this one, what the database raises for all."""
        entry = _Entry(row_id, document, serial, expires)
        self._waiting.append(entry)
        async with self._writing:
            while not entry.done.done():  # those before it may have been given up, and fill a group
                await self._write()
        await entry.done

    async def _write(self) -> None:
        group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
        refused: dict[int, Exception] = {}
        try:
            async with write_session(self._engine, self._hub) as session:
                refused = await _store(session, group)
        except BaseException as error:
            _settle(group, dict.fromkeys(map(id, group), _passed_on(error)))
            if not isinstance(error, Exception):
                raise
        else:
            _settle(group, refused)


async def _store(session: AsyncSession, group: list[_Entry]) -> dict[int, Exception]:
    """Those that are refused, by identity; the others are written."""
    nodes = NodeRepository(session)
    refused: dict[int, Exception] = {}
    good: dict[str, _Entry] = {}
    held = await nodes.described_for_change({entry.row_id for entry in group})
    for entry in group:
        before = held.get(entry.row_id)
        if before is not None and before.descriptor == entry.document:
            continue  # a repeated request
        try:
            before = check_next(before, entry.row_id, entry.serial)
        except ApiError as error:
            refused[id(entry)] = error
        else:
            held[entry.row_id] = before._replace(descriptor=entry.document, descriptor_serial=entry.serial)
            good[entry.row_id] = entry  # of two of one node the later one counts
    if not good:
        return refused
    await nodes.describe([(entry.row_id, entry.document, entry.serial, entry.expires) for entry in good.values()])
    for realm_id in sorted({held[row_id].realm_id for row_id in good}):
        marked = [row_id for row_id in good if held[row_id].realm_id == realm_id]
        await DirectoryRepository(session).mark(realm_id, marked)
        note_change(session, realm_id)
    return refused


def _settle(group: list[_Entry], refused: dict[int, Exception]) -> None:
    for entry in group:
        if entry.done.done():
            continue  # its request was given up
        error = refused.get(id(entry))
        if error is None:
            entry.done.set_result(None)
        else:
            entry.done.set_exception(error)


def _passed_on(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else OSError("the write was given up")
