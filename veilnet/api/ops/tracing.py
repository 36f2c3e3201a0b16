# SPDX-License-Identifier: Apache-2.0
"""Spans of requests by OpenTelemetry, when it is installed and OTEL_EXPORTER_OTLP_ENDPOINT names where they go.

Nothing is sent anywhere unless an operator sets that variable. A span has the operation's name, method and status: no
ids, addresses, queries or user agents, which the middleware of the web framework would add. The trace goes on from the
caller's `traceparent` (W3C Trace Context).
"""

from __future__ import annotations

import os
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from veilnet.api.ops.metrics import operation_of
from veilnet.api.settings import SetupError

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"


def tracer_of_environment() -> Any | None:
    """An OpenTelemetry tracer, or None when no endpoint is set. Raises SetupError when the library is missing."""
    if not os.environ.get(ENDPOINT):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        detail = f"{ENDPOINT} is set and OpenTelemetry is not installed: pip install 'veilnet[otel]', or unset it"
        raise SetupError(detail) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "veilnet-master"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("veilnet.api")


class TraceRequests:
    """ASGI middleware: one server span a request."""

    def __init__(self, app: ASGIApp, tracer: Any) -> None:
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - only where a tracer is, the library is
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._app = app
        self._tracer = tracer
        self._kind = SpanKind.SERVER
        self._context = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        parent = self._context.extract(headers)
        with self._tracer.start_as_current_span(scope["method"], context=parent, kind=self._kind) as span:

            async def watch(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.update_name(operation_of(scope))
                    span.set_attribute("http.request.method", scope["method"])
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            await self._app(scope, receive, watch)
