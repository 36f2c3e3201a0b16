# SPDX-License-Identifier: Apache-2.0
"""A node's way to the Master: enrolment once, then signed snapshots for as long as it runs.

Nothing here is needed for packets to flow: with the Master away a node runs on the last snapshot that verified.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Any, Final

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from veilnet.enrolment_token import EnrolmentTokenText
from veilnet.keyd.node_files import NodeError, NodeFiles, NodeInfo, read_info
from veilnet.protocol.directory import (
    Certificate,
    Directory,
    DirectoryError,
    Endpoint,
    KnownEntries,
    Rollback,
    fingerprint,
    verify_certificate,
    verify_snapshot,
)
from veilnet.protocol.enrolment import EnrolmentClaim, sign_claim
from veilnet.protocol.envelope import SNAPSHOT_MAX, read_envelope
from veilnet.tls_pin import PinError, fetch_certificate, pinned_context, system_context

__all__ = ["MasterClient", "NodeError", "NodeFiles", "NodeInfo", "enrol"]

_log = logging.getLogger("veilnet.node")

HTTP_TIMEOUT: Final = 15.0
SILENCE_MAX: Final = 75.0
"""Seconds without a message, heartbeats included, after which a channel counts as dead."""
DESCRIPTOR_SECONDS: Final = 7 * 86400
DESCRIPTOR_RENEW_BEFORE: Final = 5 * 86400
"""Renewed two days after it was made: an absence of five days, ours or the Master's, is survived."""
BACKOFF_FIRST: Final = 0.5
BACKOFF_MAX: Final = 60.0

Clock = Callable[[], int]


def unix_now() -> int:
    return int(time.time())


async def enrol(
    files: NodeFiles, token: EnrolmentTokenText, name: str, endpoints: tuple[Endpoint, ...], clock: Clock = unix_now
) -> NodeInfo:
    """Make this node's keys, prove their possession, and keep what the Master answers.

    Repeating it with the same token after a failure gives the same node. Raises NodeError.
    """
    files.make_keys()
    pem = await _pinned_pem(token)
    claim = EnrolmentClaim(bytes.fromhex(token.realm), token.id, files.identity_key(), name, clock())
    body = {
        "token_id": token.id,
        "secret": token.secret,
        "request": sign_claim(claim, files.identity()).as_json(),
        "descriptor": json.loads(files.make_descriptor(endpoints, clock(), DESCRIPTOR_SECONDS)),
    }
    context = _tls_context(token.url, pem)
    async with httpx.AsyncClient(verify=context, timeout=HTTP_TIMEOUT, trust_env=False) as client:
        try:
            response = await client.post(f"{token.url}/api/v1/enrolments", json=body)
        except httpx.HTTPError as error:
            raise NodeError(
                f"Master {token.url} can't be reached ({_reason(error)}): check address and port"
            ) from error
    if response.status_code != 201:
        raise NodeError(f"the Master refused the enrolment: {problem_text(response)}")
    return _keep(files, token, pem, response.json(), clock())


async def _pinned_pem(token: EnrolmentTokenText) -> str | None:
    if token.tls is None:
        return None
    try:
        return await asyncio.to_thread(fetch_certificate, token.url, token.tls)
    except PinError as error:
        raise NodeError(str(error)) from error
    except OSError as error:
        raise NodeError(f"Master {token.url} can't be reached ({_reason(error)}): check address and port") from error


def _keep(files: NodeFiles, token: EnrolmentTokenText, pem: str | None, answer: Any, now: int) -> NodeInfo:
    """Check the answer against what the token pins, then write it; node.json last, as it means "enrolled"."""
    try:
        ca_key = base64.b64decode(answer["ca_key"], validate=True)
        if fingerprint(ca_key).hex() != token.ca:
            raise NodeError("the Master answered with another realm key than the token pins: do not trust it")
        certificate = verify_certificate(answer["certificate"], ca_key, now)
        info, credential = _info(token, certificate, answer), str(answer["credential"])
    except (KeyError, TypeError, ValueError, DirectoryError) as error:
        raise NodeError(f"the Master's answer is not a valid enrolment: {error}") from error
    if certificate.key != files.identity_key():
        raise NodeError("the Master certified another key than ours: do not trust it")
    files.write("ca.key", ca_key)
    files.write("credential", credential.encode())
    if pem is not None:
        files.write("master.pem", pem.encode())
    files.write("node.json", info.model_dump_json(indent=2).encode())
    return info


def _info(token: EnrolmentTokenText, certificate: Certificate, answer: Any) -> NodeInfo:
    return NodeInfo(
        id=str(answer["id"]),
        name=certificate.name,
        node=certificate.node.hex(),
        realm=certificate.realm.hex(),
        roles=sorted(certificate.roles),
        ipv4=IPv4Interface((certificate.ipv4, IPv4Network(answer["ipv4_range"]).prefixlen)),
        ipv6=IPv6Interface((certificate.ipv6, IPv6Network(answer["ipv6_prefix"]).prefixlen)),
        url=token.url,
    )


class MasterClient:
    """`snapshots` for ever; `publish` new endpoints. `connected`, `last_error` and `version` are for status."""

    def __init__(self, files: NodeFiles, clock: Clock = unix_now, rng: random.Random | None = None) -> None:
        self._files = files
        self._clock = clock
        self._rng = rng or random.Random()
        self._info = read_info(files)
        self._realm = bytes.fromhex(self._info.realm)
        self._ca_key = files.ca_key()
        self._tls = _tls_context(self._info.url, files.master_pem())
        self._headers = {"Authorization": f"Bearer {files.credential()}"}
        self._uploaded_serial = 0
        self._known: KnownEntries = {}
        self.connected = False
        self.last_error = ""
        self.version = 0

    async def snapshots(self) -> AsyncGenerator[Directory, None]:
        """Verified directories: the last one from disk, then each newer one that the Master gives. Never ends."""
        stored = self._stored()
        if stored is not None:
            yield stored
        delay = BACKOFF_FIRST
        while True:
            try:
                async for directory in self._channel():
                    delay = BACKOFF_FIRST
                    yield directory
            except (OSError, TimeoutError, WebSocketException, httpx.HTTPError, NodeError) as error:
                self.last_error = _reason(error)
                _log.warning("master %s: %s", self._info.url, self.last_error)
            finally:
                self.connected = False
            await asyncio.sleep(delay * self._rng.uniform(0.5, 1.0))
            delay = min(2 * delay, BACKOFF_MAX)

    async def publish(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Sign a descriptor with these endpoints and upload it, with the next contact if the Master is away."""
        self._files.make_descriptor(endpoints, self._clock(), DESCRIPTOR_SECONDS)
        try:
            await self._upload()
        except (httpx.HTTPError, OSError, NodeError) as error:
            self.last_error = _reason(error)
            _log.warning("descriptor not uploaded yet: %s", self.last_error)

    def _stored(self) -> Directory | None:
        try:
            data = (self._files.state_dir / "snapshot.json").read_bytes()
            return self._verified(data, allow_expired=True)
        except FileNotFoundError:
            return None
        except DirectoryError as error:
            _log.warning("snapshot on disk is not used: %s", error)
            return None

    def _verified(self, data: bytes, *, allow_expired: bool = False) -> Directory:
        directory = verify_snapshot(
            data,
            realm=self._realm,
            ca_key=self._ca_key,
            now=self._clock(),
            above=self.version,
            allow_expired=allow_expired,
            known=self._known,
        )
        self.version = directory.version
        return directory

    async def _channel(self) -> AsyncGenerator[Directory, None]:
        await self._upload()
        url = f"ws{self._info.url.removeprefix('http')}/api/v1/node/channel?since={self.version}"
        tls = self._tls if url.startswith("wss") else None
        async with connect(
            url, ssl=tls, additional_headers=self._headers, max_size=SNAPSHOT_MAX, proxy=None, open_timeout=HTTP_TIMEOUT
        ) as socket:
            self.connected, self.last_error = True, ""
            while True:
                directory = self._message(await _receive(socket))
                if directory is not None:
                    yield directory
                await self._upload()

    def _message(self, text: str | bytes) -> Directory | None:
        """Directory of a snapshot message; what does not verify is logged and left."""
        try:
            message = json.loads(text)
            if not isinstance(message, dict) or message.get("type") != "snapshot":
                return None
            data = read_envelope(message["snapshot"], SNAPSHOT_MAX).encode()
            directory = self._verified(data)
        except Rollback:
            return None  # what we already have, sent again
        except (ValueError, KeyError, DirectoryError) as error:
            self.last_error = f"snapshot refused: {error}"
            _log.error("%s", self.last_error)
            return None
        self._files.write("snapshot.json", data)
        return directory

    async def _upload(self) -> None:
        """Renew our descriptor if it is time, and hand the Master the last one if it may not have it."""
        now = self._clock()
        last = self._files.descriptor(now)
        if last is None or last.expires - now < DESCRIPTOR_RENEW_BEFORE:
            self._files.make_descriptor(last.endpoints if last else (), now, DESCRIPTOR_SECONDS)
            last = self._files.descriptor(now)
        if last is None or last.serial == self._uploaded_serial:
            return
        async with httpx.AsyncClient(verify=self._tls, timeout=HTTP_TIMEOUT, trust_env=False) as client:
            response = await client.put(
                f"{self._info.url}/api/v1/node/descriptor",
                content=self._files.read("descriptor.json"),
                headers={**self._headers, "Content-Type": "application/json"},
            )
        if response.status_code != 200 and problem_code(response) != "descriptor-stale":
            raise NodeError(f"the Master refused our descriptor: {problem_text(response)}")
        self._uploaded_serial = last.serial


async def _receive(socket: ClientConnection) -> str | bytes:
    async with asyncio.timeout(SILENCE_MAX):
        return await socket.recv()


def _tls_context(url: str, pem: str | None) -> ssl.SSLContext:
    """For an http URL (loopback only) it is never used."""
    return pinned_context(pem) if pem is not None else system_context()


def problem_code(response: httpx.Response) -> str:
    try:
        return str(response.json()["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def problem_text(response: httpx.Response) -> str:
    """Title and detail of a problem document, or what stands there instead of one."""
    try:
        problem = response.json()
        return f"{problem['title']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {response.status_code}, not from a VeilNet Master?"


def _reason(error: Exception) -> str:
    if isinstance(error, InvalidStatus):
        return f"channel refused with HTTP status {error.response.status_code}"
    return str(error) or type(error).__name__
