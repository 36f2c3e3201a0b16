# SPDX-License-Identifier: Apache-2.0
"""Masters with a fleet that is already enrolled: rows as an enrolment leaves them, every signature real.

The fleet: 8 Guardians, which everybody sees, and Confluxes in groups of ten with a taint of their own, so that a change
of a Conflux concerns ten nodes whatever the size of the fleet.
"""

from __future__ import annotations

import base64
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

import httpx
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from veilnet.api.access.service import create_api_token
from veilnet.api.ca import CaStore
from veilnet.api.db import make_engine, write_session
from veilnet.api.hub import Hub
from veilnet.api.ids import new_id
from veilnet.api.nodes.models import Node
from veilnet.api.platform.rate_limit import Rate, RateSettings
from veilnet.api.realms.models import Realm
from veilnet.api.realms.service import ula_address, ula_prefix
from veilnet.api.rotation.authority import Authority
from veilnet.api.secrets import bearer, new_secret, quick_hash
from veilnet.api.settings import MasterSettings, save_settings
from veilnet.api.snapshots.certificates import issue_certificate
from veilnet.api.storage.upgrade import bring_up_to_date
from veilnet.api.tls import make_certificate
from veilnet.api.tokens.models import EnrolmentToken
from veilnet.protocol.directory import Descriptor, key_id, sign_descriptor

GUARDIANS: Final = 8
GROUP: Final = 10
DAY: Final = 86400
_PLENTY: Final = Rate(per_second=1e6, burst=1_000_000)
UNLIMITED: Final = RateSettings(read=_PLENTY, write=_PLENTY, anonymous=_PLENTY, login=_PLENTY)
"""All requests of the bench come from one address and one token."""


@dataclass
class Member:
    """A node's own side: what it needs to open its channel and to change its descriptor."""

    row_id: str
    node_id: str
    group: str
    credential: str
    private: MLDSA65PrivateKey
    serial: int = 1

    def descriptor(self) -> dict[str, str]:
        """The next one, signed: another address of the node's."""
        self.serial += 1
        return _descriptor(self.private, bytes.fromhex(self.node_id), self.serial)


@dataclass(frozen=True)
class Fleet:
    state_dir: Path
    admin: str
    realm_id: str
    members: list[Member]


def _descriptor(private: MLDSA65PrivateKey, node_id: bytes, serial: int) -> dict[str, str]:
    now = int(time.time())
    endpoint = (IPv4Address(0xC0000200 + serial % 250), 51820)
    x25519, mlkem768, knock_seed = os.urandom(32), os.urandom(1184), os.urandom(32)
    found = Descriptor(node_id, serial, x25519, mlkem768, knock_seed, (endpoint,), now, now + DAY)
    return sign_descriptor(found, private).as_json()


async def populate(state_dir: Path, size: int, database_url: str | None = None, *, tls: bool = False) -> Fleet:
    """A Master's state directory and database with one realm of `size` nodes; `tls`: and a certificate of its own."""
    state_dir.mkdir(parents=True, exist_ok=True)
    settings = MasterSettings(
        state_dir=state_dir,
        public_url="http://127.0.0.1:8443",
        tls_fingerprint=_certificate(state_dir) if tls else None,
        database_url=database_url or f"sqlite+aiosqlite:///{state_dir / 'master.db'}",
        rates=UNLIMITED,
    )
    save_settings(settings)
    engine, now = make_engine(settings.database_url), int(time.time())
    await bring_up_to_date(engine, settings.backups_dir)
    ca = CaStore(settings.realms_dir).create()
    realm = _realm(ca.public_key().public_bytes_raw(), now)
    token = EnrolmentToken(id=new_id("tok"), realm_id=realm.id, secret_hash="", roles=["conflux"], node_name=None,
                           usage_limit=None, used=size, expires_at=now, created_at=now, revoked_at=now)  # fmt: skip
    authority, members, rows = Authority(bytes.fromhex(realm.wire_id), ca), [], []
    for number, address in zip(range(size), IPv4Network(realm.ipv4_range).hosts(), strict=False):
        member, row = _enrolled(number, address, realm, token.id, authority)
        members.append(member)
        rows.append(row)
    async with write_session(engine, Hub()) as session:
        for level in ([realm], [token], rows):
            session.add_all(level)
            await session.flush()
        admin = await create_api_token(session, "bench", now)
    await engine.dispose()
    return Fleet(state_dir, admin, realm.id, members)


def _certificate(state_dir: Path) -> str:
    return make_certificate(state_dir / "tls.pem", state_dir / "tls.key", ["127.0.0.1"])


def _realm(ca_key: bytes, now: int) -> Realm:
    return Realm(
        id=new_id("rlm"),
        name="bench",
        wire_id=key_id(ca_key).hex(),
        ca_key=base64.b64encode(ca_key).decode(),
        ipv4_range="10.64.0.0/14",
        ipv6_prefix=str(ula_prefix(ca_key)),
        min_guardians=1,
        rekey_seconds=120,
        idle_seconds=600,
        revision=1,
        created_at=now,
    )


def _enrolled(number: int, ipv4: IPv4Address, realm: Realm, token_id: str, ca: Authority) -> tuple[Member, Node]:
    private, row_id, secret, now = MLDSA65PrivateKey.generate(), new_id("nod"), new_secret(), int(time.time())
    key = private.public_key().public_bytes_raw()
    node_id = key_id(key)
    guardian = number < GUARDIANS
    group = "" if guardian else f"g{(number - GUARDIANS) // GROUP}"
    row = Node(
        id=row_id, realm_id=realm.id, token_id=token_id, node_id=node_id.hex(), name=f"n{number}",
        roles=["guardian" if guardian else "conflux"], taints=[group] if group else [], networks=[], ipv4=str(ipv4),
        ipv6=str(ula_address(ula_prefix(base64.b64decode(realm.ca_key)), node_id)),
        public_key=base64.b64encode(key).decode(), certificate_serial=0, descriptor_serial=1,
        descriptor_expires=now + DAY, descriptor=_descriptor(private, node_id, 1), credential_hash=quick_hash(secret),
        created_at=now, approved_at=now,
    )  # fmt: skip
    issue_certificate(row, ca, now, 7 * DAY)
    return Member(row_id, node_id.hex(), group, bearer("vnn", row_id, secret), private), row


# ---- processes ---------------------------------------------------------------------------------------------------


_SERVE: Final = (sys.executable, "-c", "from veilnet.cli.main import main; main()", "master", "serve", "--ops", "off",
                 "--host", "127.0.0.1")  # fmt: skip


class Replica:
    """`veilnet master serve` as a process of its own on loopback, without TLS unless asked for."""

    def __init__(self, state_dir: Path, port: int | None = None, *, tls: bool = False) -> None:
        self._state_dir, self._tls = state_dir, tls
        self.port = port or _free_port()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        log = self._state_dir / f"serve-{self.port}.log"
        command = [*_SERVE, "--state-dir", str(self._state_dir), "--port", str(self.port)]
        command += [] if self._tls else ["--plain-http"]
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)

    def wait(self, seconds: float = 120.0) -> None:
        """Until it answers. Raises RuntimeError if it ended or does not in time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self._process.poll() is None:
            try:
                httpx.get(f"{self.url}/livez", timeout=2, verify=False).raise_for_status()  # noqa: S501 - its own
            except httpx.HTTPError:
                time.sleep(0.1)
            else:
                return
        log = self._state_dir / f"serve-{self.port}.log"
        raise RuntimeError(f"Master on port {self.port} does not answer: {log.read_text(encoding='utf-8')[-2000:]}")

    def kill(self) -> None:
        """As a crash does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def cpu_seconds(self) -> float:
        words = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * resource.getpagesize()


@contextmanager
def replicas(state_dir: Path, count: int, *, tls: bool = False) -> Iterator[list[Replica]]:
    running: list[Replica] = []
    try:
        for _ in range(count):
            running.append(Replica(state_dir, tls=tls))
            running[-1].wait()  # the first one brings the schema up to date
        yield running
    finally:
        for replica in running:
            replica.stop()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
