# SPDX-License-Identifier: Apache-2.0
"""What a Master says when it refuses (RFC 9457), and why it is not reached."""

from __future__ import annotations

import httpx
from websockets.exceptions import InvalidStatus


def problem_code(response: httpx.Response) -> str:
    try:
        return str(response.json()["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def problem_text(response: httpx.Response) -> str:
    """Title and detail of a problem document, or what stands there instead of one."""
    try:
        problem = response.json()
        return f"{problem['title']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {response.status_code}, not from a VeilNet Master?"


def reason(error: Exception) -> str:
    if isinstance(error, InvalidStatus):
        return f"channel refused with HTTP status {error.response.status_code}"
    return str(error) or type(error).__name__
