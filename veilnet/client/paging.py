# SPDX-License-Identifier: Apache-2.0
"""Lists of the API as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

PAGE: Final = 500


def every(operation: Callable[..., Any], *path: str, **filters: Any) -> Iterator[dict[str, Any]]:
    """Every item of a list, page after page: `every(api.list_nodes, realm="lab")`. Raises ApiProblem, Unreachable."""
    page = operation(*path, limit=PAGE, **filters)
    yield from page["items"]
    while page["next_cursor"] is not None:
        page = operation(*path, limit=PAGE, cursor=page["next_cursor"], **filters)
        yield from page["items"]
