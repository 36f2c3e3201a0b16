# SPDX-License-Identifier: Apache-2.0
"""Logs of a serving Master: one JSON object a line on standard error, each with the request's id."""

from __future__ import annotations

import logging
import sys
from typing import Final

import structlog

_SHARED: Final[tuple[structlog.typing.Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def ensure_safe_logs() -> None:
    """What an embedder has configured stays; structlog's own default would print tracebacks with local variables."""
    if not structlog.is_configured():
        _configure_structlog()


def configure_logs() -> None:
    """Bodies, query strings and credentials are never logged: nothing here is given them."""
    _configure_structlog()
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _configure_structlog() -> None:
    structlog.configure(
        processors=[*_SHARED, structlog.processors.JSONRenderer()],
        # looked up with each line: who replaced standard error for a while also puts it back
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
