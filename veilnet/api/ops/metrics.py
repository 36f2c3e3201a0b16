# SPDX-License-Identifier: Apache-2.0
"""Metrics of one Master. Labels are operations and statuses, never ids, names or addresses: their number is bounded."""

from __future__ import annotations

import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UNMATCHED: Final = "unmatched"
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """A registry of its own, so that two Masters in one process do not share counters."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "veilnet_master_requests", "Requests answered.", ("operation", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "veilnet_master_request_seconds",
            "From a request's head to its answer's head.",
            ("operation",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.dropped = Counter(
            "veilnet_master_retention_dropped", "Rows dropped at their end.", ("table",), registry=self.registry
        )
        self.retention_at = Gauge(
            "veilnet_master_retention_timestamp_seconds",
            "When this Master last dropped what is kept no longer; 0 if others did.",
            registry=self.registry,
        )
        self.nodes_ahead = Counter(
            "veilnet_master_nodes_ahead",
            "Channels of nodes that know more than the database: was an older copy put back?",
            registry=self.registry,
        )
        self.channels = Gauge(
            "veilnet_master_node_channels", "Open channels of nodes at this Master.", registry=self.registry
        )


class MeasureRequests:
    """ASGI middleware. A path without a route counts as `unmatched`: a scanner can't make new labels."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._metrics.seconds.labels(operation_of(scope)).observe(time.monotonic() - start)
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            self._metrics.requests.labels(operation_of(scope), str(status)).inc()


def operation_of(scope: Scope) -> str:
    """`operationId` of the route that the router chose."""
    route = scope.get("route")
    return str(getattr(route, "operation_id", None) or getattr(route, "name", None) or UNMATCHED)
