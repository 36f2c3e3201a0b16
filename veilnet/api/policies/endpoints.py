# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated

from fastapi import Query

from veilnet.api.platform.call import CallDep
from veilnet.api.platform.roles import Resource, Verb
from veilnet.api.platform.routing import Routes
from veilnet.api.policies import service
from veilnet.api.policies.schemas import NodeTaints, PolicyCheck, PolicyDocument, PolicyExplanation, PolicyOut

routes = Routes("/realms", Resource.POLICIES, tag="policies")
taint_routes = Routes("/nodes", Resource.NODES)

NodeName = Annotated[str, Query(max_length=64)]


@routes.get("/{realm}/policy", "get_policy")
async def get_policy(realm: str, call: CallDep) -> PolicyOut:
    return await service.show(call, realm)


@routes.put("/{realm}/policy", "replace_policy")
async def replace_policy(realm: str, body: PolicyDocument, call: CallDep) -> PolicyOut:
    return await service.replace(call, realm, body)


@routes.post("/{realm}/policy:check", "check_policy", status=200, verb=Verb.READ)
async def check_policy(realm: str, body: PolicyDocument, call: CallDep) -> PolicyCheck:
    """What this document would change, and whether its tests hold. Changes nothing."""
    return await service.check(call, realm, body)


@routes.get("/{realm}/policy:explain", "explain_policy")
async def explain_policy(realm: str, a: NodeName, b: NodeName, call: CallDep) -> PolicyExplanation:
    """May node `a` talk to node `b` (name or id), and why."""
    return await service.explain(call, realm, a, b)


@taint_routes.get("/{node_id}/taints", "get_node_taints")
async def get_node_taints(node_id: str, call: CallDep) -> NodeTaints:
    return await service.show_taints(call, node_id)


@taint_routes.put("/{node_id}/taints", "replace_node_taints")
async def replace_node_taints(node_id: str, body: NodeTaints, call: CallDep) -> NodeTaints:
    return await service.replace_taints(call, node_id, body)
