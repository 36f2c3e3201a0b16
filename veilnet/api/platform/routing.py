# SPDX-License-Identifier: Apache-2.0
"""`Routes`: how a domain declares its routes; `PlatformRoute`: what every request passes through.

authentication and rate limit → authorisation → query → If-Match present? → body is JSON → `before`
→ [ session: Idempotency-Key → endpoint → If-Match was compared? → stored answer → audit → outbox → commit ]
→ fields, ETag, 304, Link
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, get_type_hints

from fastapi import APIRouter
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from veilnet.api.context import Context
from veilnet.api.db import read_session, write_session
from veilnet.api.errors import BadRequest, Invalid
from veilnet.api.idempotency.service import Attempt, in_flight, is_stored, read_key, replay, store
from veilnet.api.platform.access import Rule, authorise, bearer_text, identify
from veilnet.api.platform.body import check_body, check_text
from veilnet.api.platform.call import Call
from veilnet.api.platform.deprecation import Deprecation, announcing
from veilnet.api.platform.fields import read_fields, select_fields, selectable
from veilnet.api.platform.openapi import TOO_MANY, extra
from veilnet.api.platform.preconditions import etag, none_match, require_if_match
from veilnet.api.platform.principal import Principal
from veilnet.api.platform.roles import RealmIds, Resource, Verb

F_ = TypeVar("F_", bound=Callable[..., Any])
Handler = Callable[[Request], Awaitable[Response]]
Before = Callable[[Context, Request], Awaitable[Any]]
"""Work that no transaction should wait for, like asking another server; its result is `Call.prepared`."""

_VERBS: Final = {
    "GET": Verb.READ,
    "POST": Verb.CREATE,
    "PUT": Verb.UPDATE,
    "PATCH": Verb.UPDATE,
    "DELETE": Verb.DELETE,
}
_NOT_FILTERS: Final = {"cursor", "limit", "fields"}


class PlatformRoute(APIRoute):
    """Refuses to be made without a rule."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handler = super().get_route_handler()
        return Pipeline(self, handler).run

    @property
    def rule(self) -> Rule:
        rule = getattr(self.endpoint, "veil_rule", None)
        if not isinstance(rule, Rule):
            raise TypeError(f"{self.path}: declare the route with Routes, so that it says who may use it")
        return rule

    @property
    def before(self) -> Before | None:
        found: Before | None = getattr(self.endpoint, "veil_before", None)
        return found

    @property
    def deprecation(self) -> Deprecation | None:
        found: Deprecation | None = getattr(self.endpoint, "veil_deprecation", None)
        return found

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Also refusals say that the route is deprecated, as they are made in here."""
        found = self.deprecation
        await super().handle(scope, receive, send if found is None else announcing(found, scope["path_params"], send))

    @property
    def grouped(self) -> bool:
        """Whether what it writes shares a transaction with others' (`veilnet.api.nodes.descriptors`)."""
        return bool(getattr(self.endpoint, "veil_grouped", False))

    @property
    def rate(self) -> str | None:
        """Rate bucket of its own, beside those that every request takes from."""
        found: str | None = getattr(self.endpoint, "veil_rate", None)
        return found

    @property
    def conditional(self) -> bool:
        """Whether it needs If-Match."""
        return bool(getattr(self.endpoint, "veil_conditional", False))


class Routes:
    """Routes of one resource. Who may use one follows from its method unless `verb` or `rule` says otherwise."""

    def __init__(
        self, prefix: str, resource: Resource | None = None, *, rule: Rule | None = None, tag: str = ""
    ) -> None:
        self.router = APIRouter(prefix=prefix, tags=[tag or prefix.strip("/")], route_class=PlatformRoute)
        self._resource = resource
        self._rule = rule

    def get(self, path: str, operation_id: str, **options: Any) -> Callable[[F_], F_]:
        return self._add("GET", path, operation_id, **options)

    def post(self, path: str, operation_id: str, *, status: int = 201, **options: Any) -> Callable[[F_], F_]:
        """POST that makes something (201, verb create); for an action give `status=200, verb=Verb.UPDATE`."""
        return self._add("POST", path, operation_id, status=status, **options)

    def put(self, path: str, operation_id: str, **options: Any) -> Callable[[F_], F_]:
        return self._add("PUT", path, operation_id, **options)

    def patch(self, path: str, operation_id: str, **options: Any) -> Callable[[F_], F_]:
        return self._add("PATCH", path, operation_id, **options)

    def delete(self, path: str, operation_id: str, **options: Any) -> Callable[[F_], F_]:
        return self._add("DELETE", path, operation_id, status=204, **options)

    def _add(
        self,
        method: str,
        path: str,
        operation_id: str,
        *,
        status: int = 200,
        verb: Verb | None = None,
        rule: Rule | None = None,
        conditional: bool | None = None,
        before: Before | None = None,
        grouped: bool = False,
        rate: str | None = None,
        deprecated: Deprecation | None = None,
        **options: Any,
    ) -> Callable[[F_], F_]:
        found = rule or self._rule or Rule("administrator", self._resource, verb or _VERBS[method])
        needs_match = method in {"PUT", "PATCH", "DELETE"} if conditional is None else conditional

        marks = {
            "veil_rule": found,
            "veil_conditional": needs_match,
            "veil_before": before,
            "veil_deprecation": deprecated,
            "veil_grouped": grouped,
            "veil_rate": rate,
        }
        if rate is not None:
            options["responses"] = {**TOO_MANY, **options.get("responses", {})}
        options |= {"methods": [method], "operation_id": operation_id, "status_code": status}
        options["deprecated"] = deprecated is not None or None

        def register(endpoint: F_) -> F_:
            vars(endpoint).update(marks)
            answer = selectable(get_type_hints(endpoint).get("return")) if method == "GET" else None
            more = extra(method, found, conditional=needs_match, selectable=bool(answer), deprecation=deprecated)
            self.router.add_api_route(path, endpoint, openapi_extra=more, **options)
            return endpoint

        return register


class Pipeline:
    """Runs the requests of one route."""

    def __init__(self, route: PlatformRoute, handler: Handler) -> None:
        self._rule, self._conditional, self._handler = route.rule, route.conditional, handler
        self._before = route.before
        self._operation_id = route.operation_id or route.name
        self._method = next(iter(route.methods or ()))
        self._writes = self._method != "GET"
        self._grouped, self._rate = route.grouped, route.rate
        self._fields = selectable(route.response_model) if not self._writes else frozenset()
        self._query = {field.alias for field in get_flat_params(route.dependant)} - route.param_convertors.keys()

    async def run(self, request: Request) -> Response:
        context: Context = request.app.state.context
        principal = await identify(context, request, self._rule, writes=self._writes)
        realms = authorise(principal, self._rule)
        if self._rate is not None:
            context.limiter.take(self._rate, principal.id)
        self._check_query(request)
        if self._conditional:
            require_if_match(request.headers.get("if-match"))
        await check_body(request)
        header = request.headers.get("idempotency-key") if self._method == "POST" else None
        attempt = None if header is None else await _attempt(request, principal, header)
        alone = self._writes and not self._grouped
        session = write_session(context.engine, context.hub) if alone else read_session(context.engine)
        with _alone(context, attempt):
            prepared = None
            if self._before is not None and not await _answered(context, attempt):
                prepared = await self._before(context, request)
            async with session as opened:
                call = self._call(request, context, opened, principal, realms)
                call.prepared = prepared
                return await self._carry_out(request, call, attempt)

    def _call(
        self, request: Request, context: Context, session: AsyncSession, principal: Principal, realms: RealmIds
    ) -> Call:
        call = Call(
            context=context,
            session=session,
            principal=principal,
            operation_id=self._operation_id,
            realms=realms,
            resource=self._rule.resource,
            verb=self._rule.verb,
            if_match=request.headers.get("if-match"),
            list_key=_list_key(request),
        )
        request.state.call = call
        return call

    async def _carry_out(self, request: Request, call: Call, attempt: Attempt | None) -> Response:
        if attempt is None:
            return await self._endpoint(request, call)
        stored = await replay(call.session, attempt, call.now)
        if stored is not None:
            return stored
        response = await self._endpoint(request, call)
        await store(call.session, attempt, response, call.now)
        return response

    async def _endpoint(self, request: Request, call: Call) -> Response:
        response = await self._handler(request)
        if not self._writes:
            return self._shown(request, call, response)
        assert call.matched or not self._conditional, f"{self._operation_id} did not compare If-Match"
        if self._rule.who != "node":  # a node's descriptor is no act of an administrator
            call.finish_audit()
        await call.session.flush()  # so that the ETag's version is the new one
        if call.version is not None:
            response.headers["ETag"] = etag(call.version, bytes(response.body))
        return response

    def _shown(self, request: Request, call: Call, response: Response) -> Response:
        body = getattr(response, "body", None)
        if not isinstance(body, bytes):
            return response  # a stream
        if wanted := request.query_params.get("fields"):
            body = select_fields(body, read_fields(wanted, self._fields))
        tag = etag(call.version or "0", body)
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if call.next_link:
            headers["Link"] = call.next_link
        if none_match(request.headers.get("if-none-match"), tag):
            return Response(status_code=304, headers=headers)
        return Response(body, response.status_code, headers, response.headers.get("content-type"))

    def _check_query(self, request: Request) -> None:
        known = self._query | ({"fields"} if self._fields else set())
        for name, value in request.query_params.multi_items():
            if name not in known:
                raise Invalid("unknown-parameter", f"{name[:64]!r}: choose among {', '.join(sorted(known)) or 'none'}")
            try:
                check_text(value)
            except ValueError as error:
                raise BadRequest("bad-request", f"query parameter {name}: {error}") from None
        for name, value in request.path_params.items():
            try:
                check_text(str(value))
            except ValueError as error:
                raise BadRequest("bad-request", f"path parameter {name}: {error}") from None


@contextmanager
def _alone(context: Context, attempt: Attempt | None) -> Iterator[None]:
    """Refuses a second request with this idempotency key while the first one runs in this process."""
    if attempt is None:
        yield
        return
    if attempt.place in context.in_flight:
        raise in_flight()
    context.in_flight.add(attempt.place)
    try:
        yield
    finally:
        context.in_flight.discard(attempt.place)


async def _answered(context: Context, attempt: Attempt | None) -> bool:
    """Whether the stored answer will be given, so that nothing has to be found out for it."""
    if attempt is None:
        return False
    async with read_session(context.engine) as session:
        return await is_stored(session, attempt, context.clock())


def _list_key(request: Request) -> str:
    filters = sorted(item for item in request.query_params.multi_items() if item[0] not in _NOT_FILTERS)
    return hashlib.sha256(repr((request.url.path, filters)).encode()).hexdigest()[:16]


async def _attempt(request: Request, principal: Principal, header: str) -> Attempt:
    route = f"{request.method} {request.url.path}?{request.url.query}"
    text = "" if principal.kind == "anonymous" else bearer_text(request)
    return Attempt(principal.id, read_key(header), route, await request.body(), text)
