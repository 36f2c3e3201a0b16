# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from veilnet.api.operations import service
from veilnet.api.operations.repository import OperationRepository
from veilnet.api.operations.schemas import OperationOut, OperationState
from veilnet.api.platform.call import CallDep
from veilnet.api.platform.paging import PageDep, paginate
from veilnet.api.platform.roles import Resource, Verb
from veilnet.api.platform.routing import Routes
from veilnet.api.schemas import Page

routes = Routes("/operations", Resource.OPERATIONS)


@routes.get("", "list_operations")
async def list_operations(call: CallDep, page: PageDep, state: OperationState | None = None) -> Page[OperationOut]:
    operations = OperationRepository(call.session)
    return await paginate(call, page, operations, operations.visible(call.realms, state), service.operation_out)


@routes.get("/{operation_id}", "get_operation")
async def get_operation(operation_id: str, call: CallDep) -> OperationOut:
    return service.operation_out(await service.get_operation(call, operation_id))


@routes.post("/{operation_id}/cancel", "cancel_operation", status=200, verb=Verb.UPDATE)
async def cancel_operation(operation_id: str, call: CallDep) -> OperationOut:
    return await service.cancel(call, operation_id)
