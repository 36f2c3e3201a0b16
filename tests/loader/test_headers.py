# SPDX-License-Identifier: Apache-2.0
"""Header trees: the running kernel's, an assembled one, or a message that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from veilnet.loader.headers import HeadersMissingError, find_headers


def _tree(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{root.name}/{name}")
    return root


COMMON, ARCH = "include/linux/kconfig.h", "include/generated/autoconf.h"


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BCC_KERNEL_SOURCE", raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def _find(tmp_path: Path) -> Path:
    return find_headers(release="9.9", modules=tmp_path / "m", sources=tmp_path / "src", cache=tmp_path / "cache")


def test_running_kernel_first(tmp_path: Path) -> None:
    build = _tree(tmp_path / "m/9.9/build", COMMON, ARCH)
    _tree(tmp_path / "src/linux-headers-6.1.0-1-common", COMMON)
    _tree(tmp_path / "src/linux-headers-6.1.0-1-amd64", ARCH)
    assert _find(tmp_path) == build


def test_newest_pair_is_merged_once(tmp_path: Path) -> None:
    for version in ("6.1.0-9", "6.1.0-10"):
        _tree(tmp_path / f"src/linux-headers-{version}-common", COMMON)
        _tree(tmp_path / f"src/linux-headers-{version}-amd64", ARCH)
    tree = _find(tmp_path)
    assert tree == tmp_path / "cache/6.1.0-10-amd64"
    assert (tree / COMMON).read_text() == f"linux-headers-6.1.0-10-common/{COMMON}"
    assert (tree / ARCH).read_text() == f"linux-headers-6.1.0-10-amd64/{ARCH}"
    stamp = tree.stat().st_mtime_ns
    assert _find(tmp_path) == tree and tree.stat().st_mtime_ns == stamp
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["6.1.0-10-amd64"]


@pytest.mark.parametrize("lone", ["linux-headers-6.1.0-1-common", "linux-headers-6.1.0-1-amd64"])
def test_half_a_tree_is_no_tree(tmp_path: Path, lone: str) -> None:
    _tree(tmp_path / "src" / lone, COMMON if "common" in lone else ARCH)
    with pytest.raises(HeadersMissingError, match=r"apt-get install linux-headers-9.9.*linux-headers-amd64"):
        _find(tmp_path)


def test_named_tree_must_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path))
    with pytest.raises(HeadersMissingError, match="is not a kernel header tree"):
        _find(tmp_path)
    _tree(tmp_path, COMMON, ARCH)
    assert _find(tmp_path) == tmp_path
