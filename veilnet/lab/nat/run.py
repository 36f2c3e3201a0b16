# SPDX-License-Identifier: Apache-2.0
"""Commands inside a namespace."""

from __future__ import annotations

import subprocess

from veilnet.lab.journal import LabError
from veilnet.lab.net import in_namespace


def run(namespace: str, *command: str, text: str = "") -> str:
    """Output of a command; LabError with what it said if it fails or is not installed."""
    where = f"{command[0]} in {namespace}"
    try:
        done = subprocess.run(
            [*in_namespace(namespace), *command], input=text, check=False, capture_output=True, text=True
        )
    except FileNotFoundError as error:
        raise LabError(f"{where}: {error.filename} is not installed") from error
    if done.returncode:
        raise LabError(f"{where}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
