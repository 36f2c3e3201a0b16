# SPDX-License-Identifier: Apache-2.0
"""Every route of the app with a request that succeeds. A route without one fails `test_every_route_has_a_sample`."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from fastapi import FastAPI
from starlette.routing import BaseRoute

from tests.api.conftest import Identity, Master, node_headers
from tests.api.signer import Signer
from tests.patience import PATIENCE
from veilnet.api.platform.access import Rule
from veilnet.api.platform.routing import PlatformRoute

PREFIX: Final = "/api/v1"


@dataclass(frozen=True)
class Route:
    """One operation of the app."""

    method: str
    path: str
    operation_id: str
    rule: Rule
    conditional: bool
    document: dict[str, Any] = field(hash=False)
    """Its part of the OpenAPI document."""

    @property
    def writes(self) -> bool:
        return self.method != "GET"

    @property
    def is_list(self) -> bool:
        return any(item["name"] == "cursor" for item in self.document.get("parameters", []))

    @property
    def has_body(self) -> bool:
        return "requestBody" in self.document

    def __str__(self) -> str:
        return f"{self.method} {self.path} ({self.operation_id})"


def all_routes(app: FastAPI) -> Iterator[BaseRoute]:
    pending: list[Any] = list(app.routes)
    while pending:
        route = pending.pop(0)
        nested = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        if nested:
            pending += nested
        else:
            yield route


def routes(app: FastAPI) -> list[Route]:
    """From the OpenAPI document, with the rule of the code behind each."""
    code = {route.operation_id: route for route in all_routes(app) if isinstance(route, PlatformRoute)}
    found = []
    for path, methods in app.openapi()["paths"].items():
        for method, document in methods.items():
            own = code[document["operationId"]]
            found.append(Route(method.upper(), path, document["operationId"], own.rule, own.conditional, document))
    return found


@dataclass
class World:
    """A realm `lab` with what routes need; each request gets things of its own, so mutations do not meet."""

    master: Master
    count: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    node_bearer: dict[str, str] = field(default_factory=dict)
    identity: Identity = field(default_factory=Identity)

    def name(self) -> str:
        return f"thing-{next(self.count)}"

    async def made(self, path: str, **body: Any) -> str:
        """Id of something new."""
        created = await self.master.request("POST", path, json=body, status=201)
        return str(created["id"])

    async def node(self) -> str:
        token = await self.master.token()
        return str((await self.master.enrol(self.name(), token=token))["id"])

    async def edge(self) -> str:
        return await self.made("/realms/lab/edges", a=await self.node(), b=await self.node())

    async def conflux(self) -> str:
        token = await self.master.token(roles=["conflux"])
        return str((await self.master.enrol(self.name(), token=token))["id"])

    async def advertised_network(self) -> str:
        return await self.made("/advertised-networks", node_id=await self.conflux(), prefix=self.prefix())

    def prefix(self) -> str:
        number = next(self.count)
        return f"192.{number >> 8}.{number & 255}.0/24"

    async def enrolment_token(self) -> str:
        return await self.made("/enrolment-tokens", realm="lab", roles=["guardian"])

    async def group(self) -> str:
        return await self.made("/groups", name=self.name())

    async def webhook(self) -> str:
        return await self.made("/webhooks", name=self.name(), url="https://hooks.example.invalid/")

    async def user(self) -> str:
        return await self.made("/users", name=self.name())

    async def member(self) -> str:
        """Path of a membership."""
        group = await self.group()
        return f"{group}/members/{await self.made(f'/groups/{group}/members', user_id=await self.user())}"

    async def secret(self) -> str:
        """Path of a service account's secret."""
        account = await self.made("/service-accounts", name=self.name())
        return f"{account}/secrets/{await self.made(f'/service-accounts/{account}/secrets')}"

    async def provider(self) -> str:
        name = self.name()
        while len(found := (await self.master.request("GET", "/identity-providers"))["items"]) >= 40:
            await self.master.change("DELETE", f"/identity-providers/{found[0]['id']}")
        issuer = f"https://{name}.example"
        return await self.made("/identity-providers", name=name, issuer=issuer, client_id="cli", creates_users=True)

    async def api_token(self) -> str:
        return await self.made("/api-tokens", name=self.name(), grants=[{"role": "readonly"}])

    async def audit_event(self) -> str:
        await self.user()
        return str((await self.master.request("GET", "/audit-events"))["items"][0]["id"])

    async def operation(self) -> str:
        """Of one that has ended."""
        operation_id = str((await self.master.request("POST", "/audit-events/verify", status=202))["id"])
        async with asyncio.timeout(PATIENCE):
            while (await self.master.request("GET", f"/operations/{operation_id}"))["state"] == "running":
                await asyncio.sleep(0.01)
        return operation_id

    async def running_operation(self) -> str:
        from veilnet.api.db import write_session  # noqa: PLC0415 - only here
        from veilnet.api.operations.repository import OperationRepository  # noqa: PLC0415

        operation_id = await self.operation()
        async with write_session(self.master.context.engine, self.master.context.hub) as session:
            row = await OperationRepository(session).by_id(operation_id)
            assert row is not None
            row.state, row.ended_at = "running", None
        return operation_id

    async def new_realm(self) -> str:
        name = self.name()
        await self.master.realm(name)
        return name

    async def announced(self) -> str:
        realm = await self.new_realm()
        await self.master.request("POST", f"/realms/{realm}/ca:announce")
        return realm


Maker = Callable[[World], Awaitable[str]]

# What stands in a path behind the last of these parts; the longest that fits counts.
PATHS: Final[dict[str, Maker]] = {
    "/nodes/{node_id}": World.node,
    "/guardians/{node_id}": World.node,
    "/advertised-networks/{network_id}": World.advertised_network,
    "/enrolment-tokens/{token_id}": World.enrolment_token,
    "/api-tokens/{token_id}": World.api_token,
    "/whoami/tokens/{token_id}": World.api_token,
    "/users/{user_id}": World.user,
    "/service-accounts/{service_account_id}/secrets/{secret_id}": World.secret,
    "/identity-providers/{provider_id}": World.provider,
    "/groups/{group_id}/members/{member_id}": World.member,
    "/groups/{group_id}": World.group,
    "/service-accounts/{service_account_id}": lambda world: world.made("/service-accounts", name=world.name()),
    "/audit-events/{event_id}": World.audit_event,
    "/operations/{operation_id}/cancel": World.running_operation,
    "/operations/{operation_id}": World.operation,
    "/realms/{realm}/edges/{edge_id}": World.edge,
    "/webhooks/{webhook_id}": World.webhook,
}


async def _enrolment(world: World) -> dict[str, Any]:
    token, identity, now = await world.master.token(), Identity(), world.master.clock.now
    return {
        "token_id": token.id,
        "secret": token.secret,
        "request": identity.claim(token, name=world.name(), now=now),
        "descriptor": identity.descriptor(now=now),
    }


async def _both(one: Awaitable[str], other: Awaitable[str]) -> dict[str, str]:
    return {"a": await one, "b": await other}


async def _provider(world: World) -> dict[str, str]:
    name = world.name()
    await world.provider()  # makes room
    return {"name": name, "issuer": f"https://{name}.example", "client_id": "cli"}


async def _session(world: World) -> dict[str, str]:
    provider = await world.master.request("GET", f"/identity-providers/{await world.provider()}")
    signer = Signer(provider["issuer"])
    signer.publish(world.master.context)
    return {"provider_id": provider["id"], "id_token": signer.token(now=world.master.clock.now, aud="cli")}


async def _batch(world: World) -> dict[str, Any]:
    return {"items": [{"id": await world.node(), "action": "drain"}]}


async def _network(world: World) -> dict[str, str]:
    return {"node_id": await world.conflux(), "prefix": world.prefix()}


async def _user(world: World) -> dict[str, str]:
    return {"user_id": await world.user()}


BODIES: Final[dict[str, Callable[[World], Any]]] = {
    "create_realm": lambda world: {"name": world.name()},
    "replace_realm_settings": lambda _: {"min_guardians": 1},
    "update_realm": lambda world: {"name": world.name()},
    "replace_realm_dns": lambda _: {"suffix": "lab.internal", "records": {"db": ["10.90.0.9"]}},
    "replace_policy": lambda _: {"default": "none"},
    "check_policy": lambda _: {"default": "none"},
    "replace_topology": lambda _: {"edges": []},
    "create_enrolment_token": lambda _: {"realm": "lab", "roles": ["guardian"]},
    "replace_node_taints": lambda _: {"taints": ["dev"]},
    "put_descriptor": lambda world: world.identity.descriptor(
        serial=next(world.count) + 1000, now=world.master.clock.now
    ),
    "put_software": lambda _: {"version": "0.1.0", "provider": "OpenSSL 3.5.4", "kernel": "6.1.0-1-amd64"},
    "put_networks": lambda _: {"prefixes": ["172.16.5.0/24"]},
    "approve_advertised_network": lambda _: {"accept_conflicts": True},
    "expire_node": lambda _: {"expires_at": None},
    "update_node": lambda _: {"labels": {"rack": "7"}},
    "create_user": lambda world: {"name": world.name()},
    "update_user": lambda world: {"name": world.name()},
    "create_group": lambda world: {"name": world.name()},
    "update_group": lambda world: {"description": world.name()},
    "create_service_account": lambda world: {"name": world.name()},
    "update_service_account": lambda world: {"description": world.name()},
    "create_api_token": lambda world: {"name": world.name(), "grants": [{"role": "readonly"}]},
    "create_webhook": lambda world: {"name": world.name(), "url": "https://hooks.example.invalid/", "realm": "lab"},
    "replace_webhook": lambda world: {"name": world.name(), "url": "https://hooks.example.invalid/"},
    "patch_webhook": lambda world: {"name": world.name()},
    "replay_webhook": lambda _: {"after_event_id": 0},
    "create_service_account_secret": lambda _: {"expires_in": 3600, "overlap_seconds": 0},
    "update_identity_provider": lambda world: {"name": world.name()},
    "update_api_token": lambda world: {"name": world.name()},
}
LATE_BODIES: Final[dict[str, Callable[[World], Awaitable[Any]]]] = {
    "enrol_node": _enrolment,
    "create_identity_provider": _provider,
    "create_session": _session,
    "batch_nodes": _batch,
    "create_advertised_network": _network,
    "create_edge": lambda world: _both(world.node(), world.node()),
    "add_group_member": _user,
}
REALMS: Final[dict[str, Maker]] = {
    "announce_realm_ca": World.new_realm,
    "update_realm": World.new_realm,
    "delete_realm": World.new_realm,
    "activate_realm_ca": World.announced,
}


QUERIES: Final[dict[str, Callable[[World], Awaitable[dict[str, str]]]]] = {
    "explain_policy": lambda world: _both(world.node(), world.node()),
}
LATE_STATES: Final = {
    "finish_realm_ca": "the overlap of a rotation has to pass first; tests/api/test_rotation.py goes through it",
}
"""Routes whose sample is refused with 409, and why."""


@dataclass(frozen=True)
class Sample:
    path: str
    body: Any = None
    query: dict[str, str] = field(default_factory=dict)


async def sample(world: World, route: Route) -> Sample:
    """A request of this route that succeeds."""
    path = route.path.removeprefix(PREFIX)
    if route.operation_id in REALMS:
        path = path.replace("{realm}", await REALMS[route.operation_id](world))
    for start in sorted(PATHS, key=len, reverse=True):
        if path.startswith(start):
            parts = start.split("{")[0] if start.count("{") == 1 else start.rsplit("{", 1)[0]
            made = await PATHS[start](world)
            if start.count("{") > 1 and start.endswith(("/members/{member_id}", "/secrets/{secret_id}")):
                parts = start.split("{")[0]
            if start.endswith("/cancel"):
                made += "/cancel"
            path = parts + made + path[len(start) :]
            break
    path = path.replace("{realm}", "lab")
    assert "{" not in path, f"{route}: add its path to PATHS in tests/api/contract/world.py"
    body = None
    if route.operation_id in LATE_BODIES:
        body = await LATE_BODIES[route.operation_id](world)
    elif route.has_body:
        assert route.operation_id in BODIES, f"{route}: add its body to BODIES in tests/api/contract/world.py"
        body = BODIES[route.operation_id](world)
    query = await QUERIES[route.operation_id](world) if route.operation_id in QUERIES else {}
    return Sample(path, body, query)


async def send(
    world: World, route: Route, wanted: Sample, headers: dict[str, str] | None = None, **arguments: Any
) -> httpx.Response:
    """The sample's request as who may send it, with `If-Match: *` where one is needed; `headers` add or replace."""
    base = credentials(world, route)
    if route.conditional:
        base["If-Match"] = "*"
    if wanted.body is not None:
        arguments.setdefault("json", wanted.body)
    arguments.setdefault("params", wanted.query)
    client = world.master.client
    return await client.request(route.method, PREFIX + wanted.path, headers={**base, **(headers or {})}, **arguments)


def credentials(world: World, route: Route) -> dict[str, str]:
    return {"administrator": dict(world.master.admin), "node": dict(world.node_bearer), "anybody": {}}[route.rule.who]


async def make_world(master: Master) -> World:
    world = World(master)
    await master.realm()
    token = await master.token(roles=["guardian", "conflux"])
    world.node_bearer = node_headers(await master.enrol("own", token=token, identity=world.identity))
    return world


def snake(name: str) -> bool:
    return re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*_?", name) is not None
