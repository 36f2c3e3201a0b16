# SPDX-License-Identifier: Apache-2.0
"""ETag, If-Match and If-None-Match (RFC 9110 sections 8.8.3 and 13.1).

An ETag is `"VERSION.DIGEST"`: the configuration's version and a digest of the representation, which may also hold what
no administrator configured (`connected`, `last_seen_at`). If-None-Match compares the whole, so 304 is never stale;
If-Match compares the version, so a node that connects in between does not refuse an administrator's change.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from veilnet.api.errors import PreconditionFailed, PreconditionRequired

_TAG: Final = re.compile(r'"([\x21\x23-\x7e]*)"')


def etag(version: str, body: bytes) -> str:
    return f'"{version}.{hashlib.sha256(body).hexdigest()[:16]}"'


def require_if_match(if_match: str | None) -> None:
    if if_match is None:
        raise PreconditionRequired("send If-Match with the ETag of the last GET, or `*` to change it whatever it is")


def check_if_match(if_match: str | None, version: str) -> None:
    """Raises PreconditionFailed unless one of the tags names this version. Weak tags never match (RFC 9110 13.1.1)."""
    require_if_match(if_match)
    assert if_match is not None
    if if_match.strip() == "*":
        return
    known = {_TAG.fullmatch(part.strip()) for part in if_match.split(",")}
    if version not in {match[1].partition(".")[0] for match in known if match}:
        raise PreconditionFailed("it was changed since: GET it again, look, and send the new ETag")


def none_match(if_none_match: str | None, tag: str) -> bool:
    """Whether the caller has this representation already. The comparison is weak (RFC 9110 13.1.2)."""
    if if_none_match is None:
        return False
    tags = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return tag in tags or "*" in tags
