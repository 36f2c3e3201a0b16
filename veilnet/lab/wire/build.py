# SPDX-License-Identifier: Apache-2.0
"""Compile the C programs of this package on first use, into a cache named by the hash of their sources."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from veilnet.lab.journal import LabError

SOURCES = Path(__file__).parent
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror=implicit-function-declaration")


def cache_dir() -> Path:
    """Where compiled programs are kept: root's, or the user's cache."""
    if os.geteuid() == 0:
        return Path("/var/cache/veilnet/wire")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "veilnet" / "wire"


def source_hash(sources: Path = SOURCES) -> str:
    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for path in sorted([*sources.glob("*.c"), *sources.glob("*.h")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def compiled(name: str, *flags: str, cache: Path | None = None, sources: Path = SOURCES) -> Path:
    """Path of the program `name`.c, compiled now unless the cache has it. `flags`: further ones, such as -static."""
    folder = (cache or cache_dir()) / source_hash(sources)
    target = folder / "-".join([name, *(flag.strip("-") for flag in flags)])
    if target.exists():
        return target
    compiler = os.environ.get("CC") or "cc"
    if shutil.which(compiler) is None:
        msg = f"{name}.c is compiled on first use and there is no C compiler ({compiler}): apt install gcc libc6-dev"
        raise LabError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(dir=folder, prefix=f".{name}-")
    os.close(handle)
    command = [compiler, *_FLAGS, *flags, "-o", made, str(sources / f"{name}.c")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        Path(made).unlink()
        msg = f"{name}.c does not compile: {' '.join(command)}\n{done.stderr.strip()}"
        raise LabError(msg)
    Path(made).chmod(0o755)
    Path(made).replace(target)  # atomic: two labs may start at once
    return target
