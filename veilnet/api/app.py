# SPDX-License-Identifier: Apache-2.0
"""The Master as an ASGI application. Nothing happens at import; `create_app` builds it from one settings object."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import Any, Final

import structlog
from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from veilnet.api.access.endpoints import own_routes as whoami
from veilnet.api.access.endpoints import routes as api_tokens
from veilnet.api.accounts.endpoints import group_routes as groups
from veilnet.api.accounts.endpoints import service_account_routes as service_accounts
from veilnet.api.accounts.endpoints import user_routes as users
from veilnet.api.audit.endpoints import routes as audit
from veilnet.api.audit.repository import AuditRepository
from veilnet.api.audit.service import by_operator, record
from veilnet.api.body_limit import BodyLimit
from veilnet.api.ca import CaStore
from veilnet.api.clock import WatchedClock
from veilnet.api.context import Context
from veilnet.api.db import make_engine, read_session, write_session
from veilnet.api.enrolment.endpoints import routes as enrolment
from veilnet.api.errors import install_handlers
from veilnet.api.events.endpoints import routes as events
from veilnet.api.identity.endpoints import login_routes as login
from veilnet.api.identity.endpoints import routes as identity_providers
from veilnet.api.listen import listening
from veilnet.api.logs import ensure_safe_logs
from veilnet.api.networks.endpoints import own_routes as own_networks
from veilnet.api.networks.endpoints import routes as networks
from veilnet.api.nodes.endpoints import guardian_routes as guardians
from veilnet.api.nodes.endpoints import own_routes as own_node
from veilnet.api.nodes.endpoints import routes as nodes
from veilnet.api.oauth.endpoints import routes as secrets
from veilnet.api.oauth.token_endpoint import install_token_endpoint
from veilnet.api.operations.endpoints import routes as operations
from veilnet.api.ops.metrics import MeasureRequests
from veilnet.api.ops.tracing import TraceRequests, tracer_of_environment
from veilnet.api.platform.rate_limit import RateLimiter
from veilnet.api.platform.request_id import RequestId
from veilnet.api.policies.endpoints import routes as policies
from veilnet.api.policies.endpoints import taint_routes as taints
from veilnet.api.posture.endpoints import own_routes as own_software
from veilnet.api.posture.endpoints import routes as posture
from veilnet.api.realms.endpoints import routes as realms
from veilnet.api.retention.service import trimming
from veilnet.api.rotation.endpoints import routes as rotation
from veilnet.api.schemas import Problem
from veilnet.api.sealing import Sealer
from veilnet.api.settings import MasterSettings
from veilnet.api.snapshots.endpoints import router as snapshots
from veilnet.api.snapshots.feed import Feeds
from veilnet.api.snapshots.repository import DirectoryRepository
from veilnet.api.storage.upgrade import bring_up_to_date
from veilnet.api.tokens.endpoints import routes as tokens
from veilnet.api.topology.endpoints import routes as topology
from veilnet.api.upkeep.service import upkeep
from veilnet.api.webhooks.endpoints import routes as webhooks
from veilnet.api.webhooks.sender import sending

_log: Any = structlog.get_logger("veilnet.api")
BODY_MAX: Final = 1024 * 1024
_PROBLEM: Final[dict[str, Any]] = {"model": Problem, "content": {"application/problem+json": {}}}


_ROUTES: Final = (
    own_node,  # the first one: routes are tried in this order, and nodes call the most
    realms,
    policies,
    rotation,
    posture,
    topology,
    tokens,
    nodes,
    guardians,
    taints,
    networks,
    own_networks,
    own_software,
    enrolment,
    users,
    groups,
    service_accounts,
    secrets,
    api_tokens,
    whoami,
    identity_providers,
    login,
    audit,
    operations,
    events,
    webhooks,
)


async def _look_at_the_clock(context: Context) -> None:
    """What the operator's word excuses is written down; from then on the time of that entry counts."""
    clock = context.clock
    if not isinstance(clock, WatchedClock):
        return
    async with read_session(context.engine) as session:
        signed_at, change = await DirectoryRepository(session).last_signed(), await AuditRepository(session).last()
    excused = clock.compare(signed_at, change.created_at if change is not None else 0)
    if fault := clock.fault:
        _log.error("clock", detail=fault)
    if excused:
        async with write_session(context.engine, context.hub) as session:
            record(session, by_operator("accept_clock", clock(), {"fault": [excused, None]}))


@cache
def _api_routes() -> list[BaseRoute]:
    """Made once, for they know nothing of an application and FastAPI takes 0.1 s to bring them under a prefix."""
    api = APIRouter(prefix="/api/v1", responses={422: _PROBLEM, "4XX": _PROBLEM, "5XX": _PROBLEM})
    for routes in _ROUTES:
        api.include_router(routes.router)
    api.include_router(snapshots)
    shared = APIRouter()
    shared.include_router(api)
    return shared.routes


def _lifespan(context: Context, feeds: Feeds) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await bring_up_to_date(context.engine, context.settings.backups_dir)
            await _look_at_the_clock(context)
            async with (
                listening(context.engine, context.hub),
                context.operations.running(),
                sending(context),
                upkeep(context),
                trimming(context),
            ):
                try:
                    yield
                finally:
                    await feeds.stop()
        finally:
            await context.engine.dispose()

    return lifespan


def create_app(settings: MasterSettings, clock: Callable[[], int] | None = None) -> FastAPI:
    """Application whose lifespan owns the database engine and brings the schema up to date."""
    ensure_safe_logs()
    context = Context(
        settings,
        make_engine(settings.database_url),
        CaStore(settings.realms_dir),
        clock or WatchedClock(),
        RateLimiter(settings.rates),
        Sealer(settings.seal_key),
    )
    context.metrics.channels.set_function(context.hub.open_channels)
    feeds = Feeds(context)
    app = FastAPI(
        title="VeilNet Master", version="1", lifespan=_lifespan(context, feeds), docs_url=None, redoc_url=None
    )
    app.state.context, app.state.feeds = context, feeds
    app.add_middleware(BodyLimit, limit=BODY_MAX)
    app.add_middleware(MeasureRequests, metrics=context.metrics)
    if (tracer := tracer_of_environment()) is not None:
        app.add_middleware(TraceRequests, tracer=tracer)
    app.add_middleware(RequestId)  # the last one added is the outermost
    install_handlers(app)
    app.router.routes.extend(_api_routes())
    install_token_endpoint(app)

    @app.get("/livez", include_in_schema=False)
    async def livez() -> dict[str, int]:
        """Also the Master's clock (unix seconds), for `veilnet doctor`."""
        return {"time": context.clock()}

    return app
