# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from fastapi import APIRouter

from veilnet.api.deps import ContextDep, WriteSession
from veilnet.api.enrolment import service
from veilnet.api.enrolment.schemas import Enrolled, EnrolmentRequest

router = APIRouter(prefix="/enrolments", tags=["enrolment"])


@router.post("", status_code=201, operation_id="enrol_node")
async def enrol_node(body: EnrolmentRequest, session: WriteSession, context: ContextDep) -> Enrolled:
    """Needs no bearer: the body carries the token's secret and the new identity's signature."""
    return await service.enrol(session, context, body)
