# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from veilnet.api.enrolment import service
from veilnet.api.enrolment.schemas import Enrolled, EnrolmentRequest
from veilnet.api.platform.access import ANYBODY
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.routing import Routes

routes = Routes("/enrolments", rule=ANYBODY, tag="enrolment")


@routes.post("", "enrol_node")
async def enrol_node(body: EnrolmentRequest, call: CallDep) -> Enrolled:
    """Needs no bearer: the body carries the token's secret and the new identity's signature."""
    return await service.enrol(call, body)
