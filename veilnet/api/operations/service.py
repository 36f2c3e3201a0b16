# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from fastapi import Response

from veilnet.api.db import after_commit
from veilnet.api.errors import Conflict, NotFound
from veilnet.api.ids import new_id
from veilnet.api.operations.models import Operation
from veilnet.api.operations.repository import OperationRepository
from veilnet.api.operations.runner import Work
from veilnet.api.operations.schemas import OperationOut
from veilnet.api.platform.call import Call


async def start_operation(
    call: Call, response: Response, kind: str, work: Work, *, realm_id: str | None = None
) -> OperationOut:
    """Answer 202 with this: `work` starts when the transaction is committed, in a session of its own making."""
    row = Operation(
        id=new_id("opn"),
        kind=kind,
        realm_id=realm_id,
        state="running",
        done=0,
        total=None,
        result=None,
        error=None,
        created_by=call.principal.id,
        created_at=call.now,
        ended_at=None,
        heartbeat_at=call.now,
        cancel_asked=False,
    )
    await OperationRepository(call.session).add(row)
    after_commit(call.session, lambda: call.context.operations.start(row.id, work))
    response.headers["Location"] = f"/api/v1/operations/{row.id}"
    return operation_out(row)


async def get_operation(call: Call, operation_id: str) -> Operation:
    row = await OperationRepository(call.session).by_id(operation_id)
    if row is None:
        raise NotFound("operation", operation_id)
    call.check_realm(row.realm_id, "operation", operation_id)
    return row


async def cancel(call: Call, operation_id: str) -> OperationOut:
    """It ends at its next step, or within seconds; what it has committed stays."""
    row = await get_operation(call, operation_id)
    if row.state != "running":
        raise Conflict("operation-ended", f"operation {row.id} has {row.state} already")
    before = operation_out(row)
    row.cancel_asked = True
    call.audit(row.id, row.realm_id, before, operation_out(row))
    return operation_out(row)


def operation_out(row: Operation) -> OperationOut:
    return OperationOut.model_validate(row)
