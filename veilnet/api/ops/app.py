# SPDX-License-Identifier: Apache-2.0
"""The operators' listener: /livez /readyz /metrics /version. Without credentials, so it listens on loopback."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from veilnet.api.ops.health import readiness
from veilnet.api.ops.metrics import Metrics
from veilnet.api.storage import schema


def create_ops_app(engine: AsyncEngine, metrics: Metrics, stopping: Callable[[], bool]) -> Starlette:
    async def livez(_: Request) -> Response:
        return JSONResponse({"live": True})

    async def readyz(_: Request) -> Response:
        found = await readiness(engine, stopping=stopping())
        return JSONResponse({"ready": found.ready, "reasons": found.reasons}, 200 if found.ready else 503)

    async def exposition(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def versions(_: Request) -> Response:
        return JSONResponse({"veilnet": version("veilnet"), "schema": schema.head()})

    routes = {"/livez": livez, "/readyz": readyz, "/metrics": exposition, "/version": versions}
    return Starlette(routes=[Route(path, endpoint) for path, endpoint in routes.items()])
