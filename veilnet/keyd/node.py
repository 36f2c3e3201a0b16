# SPDX-License-Identifier: Apache-2.0
"""A node's way to the Master: signed records for as long as it runs.

Nothing here is needed for packets to flow: with the Master away a node runs on the last documents that verified.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from veilnet.keyd import master_socket
from veilnet.keyd.advertise import Proposal
from veilnet.keyd.directory_file import DirectoryFile
from veilnet.keyd.node_files import DESCRIPTOR_SECONDS, Clock, NodeError, NodeFiles, read_info, unix_now
from veilnet.keyd.problem import problem_code, problem_text, reason
from veilnet.keyd.statements import Software, Statement
from veilnet.protocol.directory import Descriptor, Directory, DirectoryError, Endpoint, WrongSigner, key_id
from veilnet.protocol.trust import Trust

_log = logging.getLogger("veilnet.node")

SILENCE_MAX: Final = 75.0
"""Seconds without a message, heartbeats included, after which a channel counts as dead."""
SETTLE_AFTER: Final = 1.0
"""Seconds for which the beginning of an answer waits for the rest; then it counts by itself."""
HELD_MAX: Final = 64
"""Records that may wait for the rest of an answer."""
DESCRIPTOR_RENEW_BEFORE: Final = 5 * 86400
"""Renewed two days after it was made: an absence of five days, ours or the Master's, is survived."""
RESYNC_EVERY: Final = 600
"""Seconds between two requests for everything."""
MESSAGE_MAX: Final = 16 * 1024 * 1024
"""Bytes of one message: 64 records of up to 140 KiB come together."""
BACKOFF_FIRST: Final = 0.5
BACKOFF_MAX: Final = 60.0


class Resync(NodeError):  # noqa: N818 - named as what has to be done
    """What came does not follow on what is known: connect again, and say up to where."""


class MasterClient:
    """`snapshots` for ever; `publish` new endpoints; `status` for whoever asks."""

    def __init__(
        self, files: NodeFiles, clock: Clock = unix_now, rng: random.Random | None = None, mark: int = 0
    ) -> None:
        """`mark`: SO_MARK of its sockets, 0 for none."""
        self._files = files
        self._mark = mark
        self._clock = clock
        self._rng = rng or random.Random()
        self._info = read_info(files)
        trust = Trust.root(files.ca_key(), bytes.fromhex(self._info.realm))
        self._disk = DirectoryFile(files.state_dir)
        self.replica = self._disk.load(trust, bytes.fromhex(self._info.node), clock())
        self._tls = master_socket.tls_context(self._info.url, files.master_pem())
        self._headers = {"Authorization": f"Bearer {files.credential()}"}
        self._uploaded_serial = 0
        self._statements: dict[str, Statement] = {"advertised networks": Proposal(files), "software": Software()}
        self._given: Directory | None = None
        self._held: list[tuple[bytes, dict[str, Any]]] = []
        """Records that were taken, and are written down with what follows them."""
        self._held_since = 0.0
        self._last_resync = -RESYNC_EVERY
        self.connected = False
        self.last_error = ""
        self.clock_fault = ""
        self._descriptor_fault = ""
        self.refused: Counter[str] = Counter()
        """Documents that did not verify, by kind of error."""

    @property
    def version(self) -> int:
        return self.replica.version

    def status(self) -> dict[str, Any]:
        """What `veilnet status` tells of Master, clocks, the realm's keys and documents that did not verify."""
        trust, head = self.replica.trust, self.replica.head
        fault = self.clock_fault if self.connected else self.replica.clock_fault(self._clock())
        return {
            "master": {"url": self._info.url, "connected": self.connected, "last_error": self.last_error or None},
            "clock_fault": fault or None,
            "disk_fault": self._disk.fault or self._descriptor_fault or None,
            "trust": {
                "ca_keys": [key_id(key).hex() for key in trust.keys],
                "retired": trust.retired,
                "head_version": head.version if head else None,
                "head_expires": head.expires if head else None,
            },
            "refused": dict(sorted(self.refused.items())),
        }

    async def snapshots(self) -> AsyncGenerator[Directory, None]:
        """Verified directories: the last one from disk, then one for each change that the Master sends. Never ends."""
        if self.replica.head is not None:
            yield self._directory()
        delay = BACKOFF_FIRST
        while True:
            try:
                async with aclosing(self._channel()) as channel:  # else it would be closed when it is collected
                    async for directory in channel:
                        delay = BACKOFF_FIRST
                        yield directory
            except (OSError, TimeoutError, WebSocketException, httpx.HTTPError, NodeError) as error:
                self.last_error = reason(error)
                _log.warning("master %s: %s", self._info.url, self.last_error)
            finally:
                self.connected = False
            if self._left_over() and self._begun():
                yield self._directory()
            await asyncio.sleep(delay * self._rng.uniform(0.5, 1.0))
            delay = min(2 * delay, BACKOFF_MAX)

    async def publish(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Sign a descriptor with these endpoints and upload it, with the next contact if the Master is away."""
        try:
            self._files.make_descriptor(endpoints, self._clock(), DESCRIPTOR_SECONDS)
            await self._upload()
        except (httpx.HTTPError, OSError, NodeError) as error:
            self.last_error = reason(error)
            _log.warning("descriptor not uploaded yet: %s", self.last_error)

    def _begun(self) -> bool:
        """Not before we are in it ourselves: links from before a restart must not end because the start is slow."""
        return self._given is not None or self.replica.owns_itself

    def _directory(self) -> Directory:
        self._given = self.replica.directory(self._clock())
        return self._given

    async def _state(self) -> None:
        """What the Master refuses keeps nothing else from working."""
        for name, statement in self._statements.items():
            if not statement:
                continue
            async with master_socket.client(self._tls, self._mark, master_socket.HTTP_TIMEOUT) as client:
                refused = await statement.send(client, self._info.url, self._headers)
            if refused is not None:
                self._refuse(name, NodeError(problem_text(refused)))

    async def _channel(self) -> AsyncGenerator[Directory, None]:
        await self._upload()
        await self._state()
        since = self.version if self.replica.head else 0
        url = f"ws{self._info.url.removeprefix('http')}/api/v1/node/channel?since={since}"
        tls = self._tls if url.startswith("wss") else None
        ready = await master_socket.connected(self._info.url, self._mark, master_socket.HTTP_TIMEOUT)
        async with connect(
            url,
            ssl=tls,
            additional_headers=self._headers,
            max_size=MESSAGE_MAX,
            proxy=None,
            open_timeout=master_socket.HTTP_TIMEOUT,
            sock=ready,
        ) as socket:
            self.connected, self.last_error = True, ""
            while True:
                if await self._next(socket) and self._begun():
                    yield self._directory()
                if not self._held:  # a revocation does not wait for what we have to say
                    await self._upload()
                    await self._state()

    async def _next(self, socket: ClientConnection) -> bool:
        """Take one message, or settle what came if the rest is not there in time."""
        patience = max(0.0, self._held_since + SETTLE_AFTER - time.monotonic()) if self._held else SILENCE_MAX
        try:
            async with asyncio.timeout(patience):
                text = await socket.recv()
        except TimeoutError:
            if not self._held:
                raise
            return self._settle()
        return self._message(text)

    def _message(self, text: str | bytes) -> bool:
        """Take one message; whether the directory may be another one now. Raises Resync."""
        try:
            message = json.loads(text)
            kind = message["type"]
            if kind == "head":
                return self._take_head(message["head"])
            if kind == "records":
                return self._take_records(message["from"], message["version"], message["records"])
            return kind == "heartbeat" and self._take_heartbeat(message["version"], message["time"])
        except (ValueError, KeyError, TypeError) as error:
            self._refuse(f"message of the Master: {type(error).__name__}", error)
            return False

    def _take_head(self, head: dict[str, Any]) -> bool:
        try:
            taken = self.replica.take_head(head, self._clock())
        except DirectoryError as error:
            self._refuse("head", error)
            return False
        if taken:
            self._disk.save(self.replica, head=head)
        return taken

    def _take_records(self, start: int, version: int, records: list[Any]) -> bool:
        if start > self.version:  # not so for the whole, which starts at 0
            raise Resync(f"changes {self.version} to {start} are missing")
        strangers = 0
        self._held_since = self._held_since if self._held else time.monotonic()
        for record in records:
            try:
                node = self.replica.take_record(record, self._clock())
            except DirectoryError as error:
                self._refuse("record", error)
                strangers += isinstance(error, WrongSigner)
            else:
                self._held += [(node, record)] if node is not None else []
        self.replica.reached(int(version))
        settled = (version > start or len(self._held) >= HELD_MAX) and self._settle()
        if strangers and self._clock() - self._last_resync >= RESYNC_EVERY:
            # a head that announced another CA key may have passed us by
            self._last_resync, self.replica.version = self._clock(), 0
            raise Resync("records under an unknown CA key: asking for everything")
        return settled

    def _settle(self) -> bool:
        """Write down what came and forget what has ended, once for all messages of an answer: each time is an fsync,
        and a directory that others have to look through; whether it may be another one now."""
        taken, self._held, forgotten = self._held, [], self.replica.forget()
        self._disk.save(self.replica, records=taken, forgotten=forgotten)
        self._check_own()
        return bool(taken or forgotten)

    def _left_over(self) -> bool:
        """What a channel that broke has left behind counts too: who was revoked does not stay until the next one."""
        if self._held:
            self._settle()
        return self._given is not None and self.replica.directory(self._clock()).nodes != self._given.nodes

    def _take_heartbeat(self, version: int, master_time: int) -> bool:
        """Also the moment to see what time alone has changed."""
        self.replica.reached(int(version))
        settled = bool(self._held) and self._settle()
        forgotten = self.replica.forget()
        if forgotten or self._disk.fault:
            self._disk.save(self.replica, forgotten=forgotten)
        fault = self.replica.clock_fault(self._clock(), int(master_time)) or ""
        if fault and fault.split(":")[0] != self.clock_fault.split(":")[0]:
            _log.error("%s", fault)
        self.clock_fault = fault
        return settled or self._given is None or self.replica.directory(self._clock()).nodes != self._given.nodes

    def _check_own(self) -> None:
        """A Master that signs an older descriptor of ours was restored from a backup: it needs the last one again."""
        own = self.replica.own
        if own is not None and own.descriptor is not None and own.descriptor.serial < self._uploaded_serial:
            self._uploaded_serial = 0

    def _refuse(self, what: str, error: Exception) -> None:
        """One bad document costs nothing but itself."""
        self.refused[type(error).__name__] += 1
        self.last_error = f"{what} refused: {error}"
        _log.error("%s", self.last_error)

    def _descriptor(self) -> Descriptor | None:
        """Renewed if it is time; the last one while the disk takes none."""
        now = self._clock()
        last = self._files.descriptor(now)
        if last is not None and last.expires - now >= DESCRIPTOR_RENEW_BEFORE and last.taints == self._files.worn():
            return last
        try:
            self._files.make_descriptor(last.endpoints if last else (), now, DESCRIPTOR_SECONDS)
        except OSError as error:
            if not self._descriptor_fault:
                _log.error("descriptor not renewed: %s", error)
            self._descriptor_fault = f"descriptor.json: {error}"
            return last
        self._descriptor_fault = ""
        return self._files.descriptor(now)

    async def _upload(self) -> None:
        """Hand the Master our descriptor if it may not have it."""
        last = self._descriptor()
        if last is None or last.serial == self._uploaded_serial:
            return
        async with master_socket.client(self._tls, self._mark, master_socket.HTTP_TIMEOUT) as client:
            response = await client.put(
                f"{self._info.url}/api/v1/node/descriptor",
                content=self._files.read("descriptor.json"),
                headers={**self._headers, "Content-Type": "application/json"},
            )
        if response.status_code != 200 and problem_code(response) != "descriptor-stale":
            raise NodeError(f"the Master refused our descriptor: {problem_text(response)}")
        self._uploaded_serial = last.serial
