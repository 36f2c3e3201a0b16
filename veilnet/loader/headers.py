# SPDX-License-Identifier: Apache-2.0
"""Find kernel headers for bcc, or put them together.

bcc wants one header tree at run time. Our programs use UAPI alone, so any recent tree will do. Debian splits one over
`linux-headers-*-common` and `-<arch>`; both merged as symlinks are a tree.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from pathlib import Path

DEBIAN_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
_MARKER = Path("include/linux/kconfig.h")


class HeadersMissingError(RuntimeError):
    """No header tree, and nothing to make one of; the message names the package to install."""


def cache_dir() -> Path:
    """Where assembled trees are kept: root's, or the user's cache."""
    if os.geteuid() == 0:
        return Path("/var/cache/veilnet/headers")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "veilnet" / "headers"


def _complete(tree: Path) -> bool:
    # a -common or -<arch> tree alone has one of the two only
    return (tree / _MARKER).is_file() and (tree / "include/generated/autoconf.h").is_file()


def _pairs(sources: Path, arch: str) -> list[tuple[str, Path, Path]]:
    """(version, arch tree, common tree), newest first."""
    found = []
    for tree in sources.glob(f"linux-headers-*-{arch}"):
        version = tree.name.removeprefix("linux-headers-").removesuffix(f"-{arch}")
        common = sources / f"linux-headers-{version}-common"
        if common.is_dir():
            found.append((version, tree, common))
    return sorted(found, key=lambda p: [int(n) for n in re.findall(r"\d+", p[0])], reverse=True)


def merge(parts: list[Path], target: Path) -> Path:
    """A tree of symlinks over `parts` at `target`; the first part wins. Appears at once, whole, or not at all."""
    work = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    for part in parts:
        for folder, _, files in os.walk(part):
            here = work / Path(folder).relative_to(part)
            here.mkdir(parents=True, exist_ok=True)
            for name in files:
                link = here / name
                if not link.is_symlink():
                    link.symlink_to(Path(folder) / name)
    # `scripts` and `tools` of Debian's trees are links to linux-kbuild and not needed to compile BPF
    try:
        work.rename(target)
    except OSError:  # another process was first
        shutil.rmtree(work)
    return target


def find_headers(
    *,
    release: str | None = None,
    modules: Path = Path("/lib/modules"),
    sources: Path = Path("/usr/src"),
    cache: Path | None = None,
) -> Path:
    """A complete header tree: $BCC_KERNEL_SOURCE, the running kernel's, an assembled one. Else HeadersMissingError."""
    named = os.environ.get("BCC_KERNEL_SOURCE")
    if named:
        if not _complete(Path(named)):
            raise HeadersMissingError(f"BCC_KERNEL_SOURCE={named} is not a kernel header tree")
        return Path(named)
    release = release or platform.release()
    build = modules / release / "build"
    if _complete(build):
        return build
    arch = DEBIAN_ARCH.get(platform.machine(), platform.machine())
    for version, tree, common in _pairs(sources, arch):
        target = (cache or cache_dir()) / f"{version}-{arch}"
        if _complete(target):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        if _complete(merge([tree, common], target)):
            return target
    raise HeadersMissingError(
        f"no kernel headers for {release}: apt-get install linux-headers-{release}, or, where no such package exists, "
        f"linux-headers-{arch}; or name a header tree in BCC_KERNEL_SOURCE"
    )


def use_headers() -> Path:
    """Find a tree and set BCC_KERNEL_SOURCE to it, before bcc compiles."""
    tree = find_headers()
    os.environ["BCC_KERNEL_SOURCE"] = str(tree)
    return tree
