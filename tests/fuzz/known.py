# SPDX-License-Identifier: Apache-2.0
"""What answers have named so far: made-up requests that name it reach further than those that name nothing."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from typing import Any, Final

import httpx

from tests.fuzz.master import Fuzzed
from tests.patience import PATIENCE

AIMED: Final = 0.8
"""Share of requests whose path parameters, and preconditions, are made to fit."""
_ID: Final = re.compile(r'"([a-z]{3})_[0-9a-hjkmnp-tv-z]{26}"')
_KEPT: Final = 20


_ENDS_REALMS = "DELETE /api/v1/realms/{realm}"
"""Not the one that everything else is about."""


class Known:
    def __init__(self) -> None:
        self._random = random.Random(1)
        self._ids: defaultdict[str, list[str]] = defaultdict(list)

    def learn(self, response: Any) -> None:
        text = response.content.decode("utf-8", "replace")
        for found in _ID.finditer(text):
            ids, row_id = self._ids[found[1]], found[0].strip('"')
            if row_id not in ids:
                ids.append(row_id)
                del ids[:-_KEPT]

    def aim(self, case: Any, fuzzed: Fuzzed) -> None:
        """Put known ids into the path and a fitting ETag into If-Match, mostly."""
        if self._random.random() > AIMED:
            return
        for name in case.path_parameters or {}:
            if name == "realm" and case.operation.label != _ENDS_REALMS:
                case.path_parameters[name] = fuzzed.realm
            elif ids := self._candidates(name):
                case.path_parameters[name] = self._random.choice(ids)
        for item in case.body.get("items", ()) if isinstance(case.body, dict) else ():
            if isinstance(item, dict) and isinstance(item.get("id"), str) and self._ids["nod"]:
                item["id"] = self._random.choice(self._ids["nod"])
        if case.headers and "If-Match" in case.headers:
            url = fuzzed.url + case.formatted_path
            answer = httpx.get(url, headers=fuzzed.headers, timeout=PATIENCE)
            case.headers["If-Match"] = answer.headers.get("ETag", case.headers["If-Match"])

    def _candidates(self, parameter: str) -> list[str]:
        """Ids whose prefix starts as the parameter does (node_id: nod_), or any of them."""
        fitting = [row_id for prefix, ids in self._ids.items() if parameter.startswith(prefix) for row_id in ids]
        return fitting or [row_id for ids in self._ids.values() for row_id in ids]
