# SPDX-License-Identifier: Apache-2.0
"""The committed OpenAPI document and the client made of it are those of the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_document_and_client_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "tools" / "gen_api.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
