# SPDX-License-Identifier: Apache-2.0
"""Lists: at most 500 items a page, ordered by (created_at, id); a cursor fits its own list and filters only."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Query, Request
from pydantic import BaseModel
from sqlalchemy import Select

from veilnet.api.db import Entity, Repository
from veilnet.api.errors import Invalid
from veilnet.api.platform.call import Call
from veilnet.api.schemas import Page

E_ = TypeVar("E_", bound=Entity)
O_ = TypeVar("O_", bound=BaseModel)


@dataclass(frozen=True)
class PageQuery:
    request: Request
    limit: int
    cursor: str | None


async def page_query(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(max_length=256)] = None,
) -> PageQuery:
    return PageQuery(request, limit, cursor)


PageDep = Annotated[PageQuery, Depends(page_query)]


async def paginate(
    call: Call, page: PageQuery, repository: Repository[E_], query: Select[E_], out: Callable[[E_], O_]
) -> Page[O_]:
    """One page of `query`, which must not be ordered yet; sets the answer's `Link`."""
    after = None if page.cursor is None else read_cursor(page.cursor, call.list_key)
    rows, more = await repository.page(query, page.limit, after)
    cursor = make_cursor(rows[-1].created_at, rows[-1].id, call.list_key) if more else None
    if cursor is not None:
        call.next_link = f'<{page.request.url.include_query_params(cursor=cursor)}>; rel="next"'
    return Page(items=[out(row) for row in rows], next_cursor=cursor)


def make_cursor(created_at: int, row_id: str, list_key: str) -> str:
    text = json.dumps([created_at, row_id, list_key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, list_key: str) -> tuple[int, str]:
    """(created_at, id) of the last item of the page before. Raises Invalid for anything but a cursor of this list."""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        created_at, row_id, key = json.loads(data)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise Invalid("cursor-invalid", "this is no cursor: send `next_cursor` of the page before") from None
    if key != list_key:
        raise Invalid("cursor-invalid", "this cursor is of another list, or the filters changed: start without one")
    if not isinstance(created_at, int) or not isinstance(row_id, str) or not 0 <= created_at < 2**53:
        raise Invalid("cursor-invalid", "this is no cursor: send `next_cursor` of the page before")
    return created_at, row_id
