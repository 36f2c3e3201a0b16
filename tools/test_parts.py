# SPDX-License-Identifier: Apache-2.0
"""Every test, in two pytest processes side by side: labs and data plane mostly wait, the rest mostly computes.

The first part is shown as it runs; the second runs at a lower priority, so that it takes what the labs leave over, and
is shown when both have ended. In CI, where nobody else is on the machine, whatever the two leave behind on it fails
the run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO, Final

from tests.traces import host_traces

ALONE: Final = ("tests/lab", "tests/attack", "tests/bpf", "tests/loader", "tests/contract")
"""What brings up namespaces and loads programs; everything else under `tests` is the second part."""
NICE: Final = 10


def commands() -> tuple[list[str], list[str]]:
    pytest = [sys.executable, "-m", "pytest", "-o"]
    rest = [f"--ignore={folder}" for folder in ALONE]
    return (
        [*pytest, "cache_dir=.pytest_cache/first", *ALONE],
        ["nice", "-n", str(NICE), *pytest, "cache_dir=.pytest_cache/second", "tests", *rest],
    )


def run(first: Sequence[str], second: Sequence[str]) -> int:
    """Exit code: 0 if both parts passed."""
    environment = os.environ | {"VEILNET_TEST_PARTS": "1"}
    start = time.monotonic()
    with tempfile.TemporaryFile() as shown_later:
        parts = [
            subprocess.Popen(first, env=environment),
            subprocess.Popen(second, env=environment, stdout=shown_later, stderr=subprocess.STDOUT),
        ]
        _pass_signals_on(parts)
        codes = [part.wait() for part in parts]
        print(f"== second part, beside the first: {' '.join(second)}", flush=True)
        _show(shown_later)
    print(f"== both parts: {time.monotonic() - start:.0f} s, exit codes {codes[0]} and {codes[1]}", flush=True)
    return max(abs(code) for code in codes)


def _pass_signals_on(parts: Sequence[subprocess.Popen[bytes]]) -> None:
    def pass_on(_number: int, _frame: object) -> None:
        for part in parts:
            if part.poll() is None:
                part.terminate()  # a pytest that ends so cleans up first

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)


def _show(output: IO[bytes]) -> None:
    output.seek(0)
    for line in output:
        sys.stdout.buffer.write(line)
    sys.stdout.flush()


def main() -> int:
    before = host_traces()
    code = run(*commands())
    left = sorted(host_traces() - before)
    if left:
        print(f"left behind by the tests: {left}")
    return code or bool(left)


if __name__ == "__main__":
    sys.exit(main())
