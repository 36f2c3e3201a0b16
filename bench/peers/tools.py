# SPDX-License-Identifier: Apache-2.0
"""Where the peers' programs come from: built from their own modules and crates into a cache, else Debian's packages.

`python -m bench.peers.tools` builds what is missing; the benchmarks only use what is there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

CACHE = Path(
    os.environ.get("VEILNET_TOOLS")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "veilnet-tools"
)
WIREGUARD_GO = "golang.zx2c4.com/wireguard@latest"
NEBULA = "github.com/slackhq/nebula/cmd/{}@v1.10.3"  # the newest that Go 1.26 and the module proxy's mirrors build
BORINGTUN = "boringtun-cli"


def find(*names: str) -> Path | None:
    """First of `names` in the cache, then in PATH."""
    for name in names:
        for path in (CACHE / "go" / name, CACHE / "boringtun" / "bin" / name):
            if path.exists():
                return path
    return next((Path(found) for name in names if (found := shutil.which(name))), None)


def go_version(binary: Path, module: str) -> str:
    """Version of the Go module that a binary was built from; the binary's own word if Go is not there."""
    if shutil.which("go"):
        text = subprocess.run(["go", "version", "-m", binary], capture_output=True, text=True, check=False).stdout
        found = re.search(rf"mod\s+{re.escape(module)}\s+(\S+)", text)
        if found:
            return found[1]
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    return (text.split() or ["unknown version"])[-1]


def build() -> None:
    """Build what is missing. Each takes minutes; CalledProcessError when a registry or compiler refuses."""
    environment = os.environ | {"GOBIN": str(CACHE / "go"), "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod"}
    go = [
        ("wireguard", WIREGUARD_GO),
        ("nebula", NEBULA.format("nebula")),
        ("nebula-cert", NEBULA.format("nebula-cert")),
    ]
    for name, module in go:
        if find(name) is None and shutil.which("go"):
            subprocess.run(["go", "install", module], check=True, env=environment)
    if find(BORINGTUN) is None and shutil.which("cargo"):
        root = str(CACHE / "boringtun")
        subprocess.run(["cargo", "install", BORINGTUN, "--locked", "--quiet", "--root", root], check=True)


if __name__ == "__main__":
    build()
