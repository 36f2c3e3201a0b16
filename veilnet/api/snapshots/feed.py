# SPDX-License-Identifier: Apache-2.0
"""One realm's feed in this process: what changed goes to the open channels of those who may see it, and to no others.

A change costs as much as it has viewers: they are found by index (`DirectoryIndex`), each record is read once and is
the same
text for all. A channel that joins is in the feed before its first records are read, so nothing falls in between; nodes
ignore what they get twice. A replica's feed is woken by the hub; it also looks by itself at every heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from veilnet.api.context import Context
from veilnet.api.db import read_session
from veilnet.api.errors import ApiError
from veilnet.api.snapshots.index import DirectoryIndex, Facts
from veilnet.api.snapshots.models import DirectoryHead, DirectoryRecord
from veilnet.api.snapshots.publisher import mark_due, publish
from veilnet.api.snapshots.repository import DirectoryRepository
from veilnet.protocol.policy import read_policy

_log = logging.getLogger("veilnet.api.feed")

BACKLOG_MAX: Final = 512
"""Messages that wait for one channel; who is slower than that is sent away and resumes where it was."""
COALESCE: Final = 0.1
"""Seconds between two turns: a burst of changes is signed and sent together."""
FORMER_SPARE: Final = 1000
"""Former states beyond twice the distinct ones that a feed holds before it drops repetitions."""
CHUNK: Final = 64
"""Records in one message of the first answer."""
RETRY: Final = 1.0
"""Seconds until a turn that failed is tried again."""
_BEHIND: Final = (
    "realm %s: node %s says that it knows version %d, this Master is at %d: if the database was put back from an older"
    " copy, set this host's clock and run `veilnet master db restored` once (after a restore with a wrong clock: with"
    " --above and the highest version that nodes say); one node alone proves nothing, veilnet_master_nodes_ahead counts"
)
_FIRST: Final = 1
"""A version that everything came after; 0 is of who knows nobody, and hears of nobody that is gone."""


@dataclass(eq=False)
class Channel:
    """One open channel. `sent` is the version that its node has been told of."""

    node_id: bytes
    sent: int
    queue: asyncio.Queue[tuple[int, str | None, list[str]]] = field(default_factory=lambda: asyncio.Queue(BACKLOG_MAX))
    """(version, head or None, records), in order."""
    closed: str = ""
    """Why it must end."""

    def put(self, version: int, head: str | None, records: list[str]) -> None:
        try:
            self.queue.put_nowait((version, head, records))
        except asyncio.QueueFull:
            self.closed = "resync"


class Feed:
    def __init__(self, context: Context, realm_id: str) -> None:
        self._context, self._realm_id = context, realm_id
        self._index = DirectoryIndex()
        self._channels: defaultdict[bytes, set[Channel]] = defaultdict(set)
        self._ready = asyncio.Event()
        self._turning = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._stopping = self._failed = self._behind = False
        self._head: str | None = None
        self._head_version = self._policy_version = 0
        self._buried: list[tuple[int, str]] = []
        """(version, row id) of nodes that are gone."""
        self._former: list[tuple[int, Facts]] = []
        """What nodes were before, and the version that ended it, in order."""
        self._former_max = FORMER_SPARE
        self._gained: defaultdict[bytes, set[bytes]] = defaultdict(set)
        """node → nodes that it sees since now."""
        self.version = 0
        self.fault = ""
        """Why nothing can be signed at present."""

    # ---- channels --------------------------------------------------------------------------------------------------

    @contextmanager
    def join(self, node_id: bytes, since: int) -> Iterator[Channel]:
        channel = Channel(node_id, since)
        self._channels[node_id].add(channel)
        if self._task is None or self._task.done():
            self._ready.clear()
            self._task = asyncio.create_task(self._run())
        try:
            yield channel
        finally:
            self._channels[node_id].discard(channel)
            if not self._channels[node_id]:
                del self._channels[node_id]

    def knows(self, node_id: bytes) -> bool:
        return node_id in self._index.facts

    async def stop(self) -> None:
        """Let the turn that is under way come to its end."""
        self._stopping = True
        self._woken.set()
        if self._task is not None:
            await self._task

    async def opening(self, channel: Channel) -> AsyncIterator[tuple[int, str | None, list[str]]]:
        """The first messages of a channel: the head and what is newer than `channel.sent`, all of it if need be."""
        await self._ready.wait()
        since, version = channel.sent, self.version
        if self._head is not None and since < self._head_version:
            yield since, self._head, []
        wanted = self._newer(channel.node_id, since)
        for place in range(0, len(wanted), CHUNK):
            async with read_session(self._context.engine) as session:
                texts = await DirectoryRepository(session).documents(wanted[place : place + CHUNK])
            last = place + CHUNK >= len(wanted)
            yield version if last else since, None, texts
        if not wanted:
            yield version, None, []

    def _newer(self, node_id: bytes, since: int) -> list[str]:
        """Row ids of the records to open with. Whoever sees others since then gets all that it sees.

        Unless it knows nobody yet, also who is gone since then, and who was in its sight before: no record that it sees
        would tell it of them.
        """
        own = self._index.facts.get(node_id)
        seen = [self._index.facts[other] for other in self._index.sight(node_id)]
        lost = self._lost(node_id, since) if own is not None and since > 0 else set()
        lost |= {row_id for version, row_id in self._buried if version > since > 0}
        if own is None or since < max(own.facts_version, self._policy_version):
            return list(lost.union(facts.row_id for facts in seen))
        return list(lost.union(facts.row_id for facts in seen if facts.version > since))

    def _lost(self, node_id: bytes, since: int) -> set[str]:
        """Row ids of those that the node would still see if they were what they were at some time after `since`."""
        first = bisect_right(self._former, since, key=lambda item: item[0])
        return {
            facts.row_id
            for _, facts in self._former[first:]
            if facts.node_id in self._index.facts and self._index.would_see(node_id, facts)
        }

    async def look_behind(self, channel: Channel) -> None:
        """A node that knows more than the database is the sign of a copy that was put back without a word.

        Its number is not signed, so that it may also be a lie, to it or by it: it is told everything, and who is gone.
        """
        await self._ready.wait()
        if channel.sent <= self.version:
            return
        await self.turn()  # another replica may have told it
        if channel.sent > self.version:
            self._context.metrics.nodes_ahead.inc()
            if not self._behind:
                _log.error(_BEHIND, self._realm_id, channel.node_id.hex(), channel.sent, self.version)
            self._behind, channel.sent = True, _FIRST

    # ---- the task ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Until the last channel has been gone for one heartbeat."""
        seconds = self._context.settings.heartbeat_seconds
        loop, due_at = asyncio.get_running_loop(), 0.0
        with self._context.hub.waiting(self._realm_id) as self._woken:
            while not self._stopping:
                self._woken.clear()
                due = loop.time() >= due_at
                if due:
                    due_at = loop.time() + seconds
                await self.turn(due=due)
                await asyncio.sleep(COALESCE)
                if not await _set_within(self._woken, RETRY if self._failed else seconds) and not self._channels:
                    return

    async def turn(self, *, due: bool = False) -> None:
        """Sign what waits and send what is signed."""
        async with self._turning:
            self._failed = False
            await self._publish(due=due)
            try:
                await self._dispatch()
            except Exception:
                self._failed = True
                _log.exception("realm %s: feed failed, it tries again", self._realm_id)

    async def _publish(self, *, due: bool) -> None:
        """Sign what waits; `due`: look for certificates to renew, too. A fault here stops nothing that is signed."""
        try:
            if due:
                await mark_due(self._context, self._realm_id)
            await publish(self._context, self._realm_id)
        except ApiError as error:
            self.fault = error.detail
            _log.error("realm %s: nothing is signed: %s", self._realm_id, error.detail)
        except Exception:
            self.fault, self._failed = "the Master can't sign: see its log", True
            _log.exception("realm %s: nothing is signed", self._realm_id)
        else:
            self.fault = ""

    async def _dispatch(self) -> None:
        if not self._ready.is_set():
            await self._load()
            self._ready.set()
            return
        async with read_session(self._context.engine) as session:
            directory = DirectoryRepository(session)
            head, records = await directory.head(self._realm_id), await directory.since(self._realm_id, self.version)
        version = max([self.version, *(record.version for record in records), head.version if head else 0])
        if head is not None and head.version > self._head_version:
            await self._new_head(head)
        self._new_records(records, version)
        await self._show(self._gained, version)
        self.version = version

    async def _load(self) -> None:
        async with read_session(self._context.engine) as session:
            directory = DirectoryRepository(session)
            head, known = await directory.head(self._realm_id), await directory.known(self._realm_id)
        self._index, self._buried, self._former = DirectoryIndex(), [], []
        for item in known:
            for version, facts in item.former:
                self._former.append((version, Facts.of(item.row_id, facts, version, version)))
            if item.gone:
                self._buried.append((item.version, item.row_id))
            else:
                self._index.put(Facts.of(item.row_id, item.facts, item.version, item.facts_version))
        self._former.sort(key=lambda item: item[0])
        if head is not None:
            self._take_head(head)
        self.version = max([0, *(item.version for item in known), self._head_version])

    def _take_head(self, head: DirectoryHead) -> None:
        self._head, self._head_version = head.document, head.version
        self._policy_version = head.policy_version
        self._index.policy = read_policy(head.policy)

    async def _new_head(self, head: DirectoryHead) -> None:
        """To everybody; with another policy also what it lets them see."""
        policy_changed = head.policy_version > self._policy_version
        before = {node: self._index.sight(node) for node in self._channels} if policy_changed else {}
        self._take_head(head)
        for channel in self._all():
            channel.put(channel.sent, head.document, [])
        for node, seen in before.items():
            self._gain(node, self._index.sight(node) - seen)

    def _gain(self, node: bytes, others: set[bytes]) -> None:
        if others:
            self._gained[node] |= others

    def _new_records(self, records: Collection[DirectoryRecord], version: int) -> None:
        """Whoever is to be shown more is told the version with the last of it: a channel that breaks in between, or
        a Master that is killed, must not leave a node with a version whose records it has not seen."""
        texts: defaultdict[Channel, list[str]] = defaultdict(list)
        for record in records:
            for channel in self._viewers(record):
                texts[channel].append(record.document)
        for channel, found in texts.items():
            channel.put(self.version if channel.node_id in self._gained else version, None, found)

    def _viewers(self, record: DirectoryRecord) -> list[Channel]:
        """Channels whose node saw the old record or sees the new one. Notes what the node itself sees from now on."""
        facts = Facts.of(record.node_id, record.facts, record.version, record.facts_version)
        node = facts.node_id
        viewers, sight = self._index.audience(node), self._index.sight(node)
        if record.gone:
            self._index.remove(node)
            self._buried.append((record.version, record.node_id))
        else:
            if (before := self._index.facts.get(node)) is not None and facts.facts_version > before.facts_version:
                self._remember(facts.facts_version, before)
            self._index.put(facts)
            viewers |= self._index.audience(node)
            if node in self._channels:
                self._gain(node, self._index.sight(node) - sight - {node})
        found = [channel for viewer in viewers | {node} for channel in self._channels.get(viewer, ())]
        if record.gone:
            for channel in self._channels.get(node, ()):
                channel.closed = "node-revoked"
                channel.put(record.version, None, [])
        return found

    def _remember(self, version: int, before: Facts) -> None:
        """What a node was until this version; now and then each state of each node is kept once, with its last end."""
        self._former.append((version, before))
        if len(self._former) > self._former_max:
            states = {replace(facts, version=0, facts_version=0): (end, facts) for end, facts in self._former}
            self._former = sorted(states.values(), key=lambda item: item[0])
            self._former_max = 2 * len(self._former) + FORMER_SPARE

    async def _show(self, gained: dict[bytes, set[bytes]], version: int) -> None:
        """Records that did not change and that a node may see since now."""
        for node, others in gained.items():
            rows = [facts.row_id for other in others if (facts := self._index.facts.get(other))]
            for place in range(0, len(rows), CHUNK):
                async with read_session(self._context.engine) as session:
                    texts = await DirectoryRepository(session).documents(rows[place : place + CHUNK])
                last = place + CHUNK >= len(rows)
                for channel in self._channels.get(node, ()):
                    channel.put(version if last else self.version, None, texts)
        gained.clear()

    def _all(self) -> list[Channel]:
        return [channel for channels in self._channels.values() for channel in channels]


class Feeds:
    """The feeds of this process, one a realm."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._feeds: dict[str, Feed] = {}

    def of(self, realm_id: str) -> Feed:
        if realm_id not in self._feeds:
            self._feeds[realm_id] = Feed(self._context, realm_id)
        return self._feeds[realm_id]

    async def stop(self) -> None:
        for feed in self._feeds.values():
            await feed.stop()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
