# SPDX-License-Identifier: Apache-2.0
"""For what does not pass `veilnet.api.platform.routing`: the node's channel."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from veilnet.api.context import Context
from veilnet.api.nodes.repository import Caller
from veilnet.api.platform.access import NODE, identify


def get_context(connection: HTTPConnection) -> Context:
    context: Context = connection.app.state.context
    return context


async def require_node(connection: HTTPConnection) -> Caller:
    found = await identify(get_context(connection), connection, NODE, writes=False)
    assert found.node is not None
    return found.node
