# SPDX-License-Identifier: Apache-2.0
"""A Master in memory: its schema built by the migrations, its clock in the test's hand."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from fastapi import FastAPI

from tests.api.postgres import Cluster, postgres_programs, running_cluster
from veilnet.api.access.service import create_api_token
from veilnet.api.app import create_app
from veilnet.api.context import Context
from veilnet.api.db import make_engine, write_session
from veilnet.api.platform.rate_limit import Rate, RateSettings
from veilnet.api.settings import MasterSettings
from veilnet.api.storage.upgrade import bring_up_to_date
from veilnet.enrolment_token import EnrolmentTokenText, read_token
from veilnet.protocol.directory import Descriptor, Endpoint, key_id, sign_descriptor
from veilnet.protocol.enrolment import EnrolmentClaim, sign_claim

START = 1_800_000_000
INHERITED = dict.fromkeys(("certificate_seconds", "grace_seconds", "ephemeral_seconds"))
"""Settings of a realm that are the Master's own."""
_PLENTY = Rate(per_second=1e6, burst=1_000_000)
UNLIMITED = RateSettings(read=_PLENTY, write=_PLENTY, anonymous=_PLENTY, login=_PLENTY, networks=_PLENTY,
                         software=_PLENTY)  # fmt: skip
ADDRESS = IPv4Address("192.0.2.7")


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@dataclass
class Identity:
    """A node's side of an enrolment."""

    private: MLDSA65PrivateKey = field(default_factory=MLDSA65PrivateKey.generate)

    @property
    def key(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    def descriptor(self, *, serial: int = 1, now: int = START, endpoints: tuple[Endpoint, ...] = ((ADDRESS, 51),),
                   life: int = 86400) -> dict[str, str]:  # fmt: skip
        descriptor = Descriptor(
            node=key_id(self.key),
            serial=serial,
            x25519=bytes(32),
            mlkem768=bytes(1184),
            knock_seed=bytes(32),
            endpoints=endpoints,
            issued=now,
            expires=now + life,
        )
        return sign_descriptor(descriptor, self.private).as_json()

    def claim(self, token: EnrolmentTokenText, *, name: str, now: int = START, signer: MLDSA65PrivateKey | None = None,
              realm: str | None = None) -> dict[str, str]:  # fmt: skip
        claim = EnrolmentClaim(bytes.fromhex(realm or token.realm), token.id, self.key, name, now)
        return sign_claim(claim, signer or self.private).as_json()


@dataclass
class Master:
    app: FastAPI
    client: httpx.AsyncClient
    clock: Clock
    admin: dict[str, str]
    database: Database

    @property
    def context(self) -> Context:
        context: Context = self.app.state.context
        return context

    async def request(self, method: str, path: str, *, status: int = 200, **arguments: Any) -> Any:
        """JSON of the answer; as the administrator unless `headers` say otherwise."""
        arguments.setdefault("headers", self.admin)
        response = await self.client.request(method, f"/api/v1{path}", **arguments)
        assert response.status_code == status, response.text
        if status >= 400:
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["status"] == status
        return response.json() if response.content else None

    async def change(self, method: str, path: str, *, etag: str | None = None, **arguments: Any) -> Any:
        """A PUT, PATCH or DELETE with the ETag of a GET just before."""
        if etag is None:
            found = await self.client.get(f"/api/v1{path}", headers=self.admin)
            assert found.status_code == 200, found.text
            etag = found.headers["etag"]
        return await self.request(method, path, headers={**self.admin, "If-Match": etag}, **arguments)

    async def realm(self, name: str = "lab", **body: Any) -> dict[str, Any]:
        found: dict[str, Any] = await self.request("POST", "/realms", json={"name": name, **body}, status=201)
        return found

    async def token(self, realm: str = "lab", **body: Any) -> EnrolmentTokenText:
        fields = {"realm": realm, "roles": ["guardian"], **body}
        created = await self.request("POST", "/enrolment-tokens", json=fields, status=201)
        return read_token(created["token"])

    async def enrol(self, name: str, *, token: EnrolmentTokenText | None = None, identity: Identity | None = None,
                    status: int = 201, **changes: Any) -> dict[str, Any]:  # fmt: skip
        token = token or await self.token()
        identity = identity or Identity()
        body = {
            "token_id": token.id,
            "secret": token.secret,
            "request": identity.claim(token, name=name, now=self.clock.now),
            "descriptor": identity.descriptor(now=self.clock.now),
            **changes,
        }
        found: dict[str, Any] = await self.request("POST", "/enrolments", json=body, status=status, headers={})
        return found


@pytest.fixture(autouse=True)
def short_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream ends once it has told what there is: the tests' transport waits for the end of an answer."""
    monkeypatch.setattr("veilnet.api.events.service.LIFETIME_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def quick_secrets_and_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hard work and durability are the subject of `test_secrets` and of tests with processes of their own."""
    monkeypatch.setattr("veilnet.api.secrets._ARGON_KIB", 64)
    monkeypatch.setattr("veilnet.api.db._SQLITE_SYNCHRONOUS", "OFF")


def make_settings(state_dir: Path, database_url: str | None = None) -> MasterSettings:
    return MasterSettings(
        state_dir=state_dir,
        public_url="https://master.example:8443",
        tls_fingerprint="ab" * 32,
        database_url=database_url or f"sqlite+aiosqlite:///{state_dir / 'master.db'}",
        heartbeat_seconds=0.2,
        rates=UNLIMITED,
    )


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with running_cluster(programs) as running:
        yield running


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with our schema, by the migrations."""
    path = tmp_path_factory.mktemp("template") / "master.db"
    asyncio.run(_migrate(path))
    return path


async def _migrate(path: Path) -> None:
    engine = make_engine(f"sqlite+aiosqlite:///{path}")
    await bring_up_to_date(engine, path.parent)
    await engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A fresh database with our schema: every test that uses it runs on both."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "master.db")
        yield Database(f"sqlite+aiosqlite:///{tmp_path / 'master.db'}", lambda: _files(tmp_path))
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    name = cluster.new_database()
    yield Database(cluster.url(name), lambda: cluster.dump(name))
    cluster.drop(name)


@dataclass(frozen=True)
class Database:
    url: str
    content: Callable[[], bytes]
    """Everything that is stored, to look for what must not be."""


def _files(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.glob("master.db*")))


@pytest.fixture
async def master(database: Database, tmp_path: Path) -> AsyncIterator[Master]:
    clock = Clock()
    app = create_app(make_settings(tmp_path, database.url), clock)
    async with app.router.lifespan_context(app):
        context: Context = app.state.context
        async with write_session(context.engine, context.hub) as session:
            token = await create_api_token(session, "test", START)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://master") as client:
            yield Master(app, client, clock, {"Authorization": f"Bearer {token}"}, database)


def node_headers(enrolled: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {enrolled['credential']}"}
