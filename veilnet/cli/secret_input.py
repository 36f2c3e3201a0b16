# SPDX-License-Identifier: Apache-2.0
"""Where the command line takes secrets from: a file, standard input or the environment, never an argument.

Arguments can be read by every user in /proc and stay in shell histories.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from veilnet.cli.output import Exit, fail


def read_secret(source: str | None, variable: str, what: str) -> str | None:
    """`source` is `-` for stdin or `@file`; without it the environment decides. None when there is nothing."""
    if source is None:
        return os.environ.get(variable) or None
    if source == "-":
        return sys.stdin.readline().strip() or fail(f"no {what} came on standard input", code=Exit.USAGE)
    if not source.startswith("@"):
        fail(
            f"the {what} must not stand on the command line: other users could read it in /proc and shell history",
            f"write it to a file and give @FILE, pipe it and give -, or set {variable}",
            Exit.USAGE,
        )
    path = Path(source[1:]).expanduser()
    try:
        return path.read_text().strip()
    except OSError as error:
        return fail(f"{what} file {path}: {error.strerror}", "check the path and its permissions", Exit.USAGE)
