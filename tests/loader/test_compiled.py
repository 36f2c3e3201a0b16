# SPDX-License-Identifier: Apache-2.0
"""Compiled programs are kept, and taken only where they fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from veilnet.loader import compiled, dataplane, libbpf, pins, program
from veilnet.loader.program import ProgramError

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(compiled, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def kept_veil_ctl(pin_dir: Path, cache: Path) -> Path:
    pins.create_maps(pin_dir)
    program.load("veil_ctl.c", pin_dir).close()
    (file,) = cache.iterdir()
    return file


def compiles(pin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether veil_ctl is not taken from the cache; what is taken works as one that was compiled."""

    def refuse(*_: object) -> list[int]:
        raise ProgramError("compiled anew")

    with monkeypatch.context() as patch:
        patch.setattr(program, "_compile", refuse)
        try:
            with program.load("veil_ctl.c", pin_dir) as loaded:
                assert libbpf.test_run(loaded.fd, bytes(64)).verdict == libbpf.XDP_DROP
        except ProgramError:
            return True
    return False


def test_second_load_takes_what_the_first_compiled(pin_dir: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = kept_veil_ctl(pin_dir, cache)
    assert file.stat().st_mode & 0o777 == 0o600
    assert not compiles(pin_dir, monkeypatch)


def test_maps_of_another_layout_are_not_taken(pin_dir: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_veil_ctl(pin_dir, cache)
    pins.remove_dir(pin_dir)
    pins.create_maps(pin_dir, {"circuits": 16, "links": 16, "streams": 16})
    assert compiles(pin_dir, monkeypatch)


def test_missing_maps_are_not_made_up(pin_dir: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_veil_ctl(pin_dir, cache)
    pins.remove_dir(pin_dir)
    assert compiles(pin_dir, monkeypatch)
    pins.create_maps(pin_dir)


@pytest.mark.parametrize("content", [b"", b"{", b"[]"])
def test_damaged_file_is_compiled_over(
    pin_dir: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    file = kept_veil_ctl(pin_dir, cache)
    file.write_bytes(content)
    assert compiles(pin_dir, monkeypatch)
    program.load("veil_ctl.c", pin_dir).close()
    assert not compiles(pin_dir, monkeypatch)


def test_files_that_others_may_write_do_not_count(pin_dir: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = kept_veil_ctl(pin_dir, cache)
    file.chmod(0o620)
    assert compiles(pin_dir, monkeypatch)


def test_any_source_counts(tmp_path: Path) -> None:
    copy = tmp_path / "bpf"
    shutil.copytree(program.source_dir(), copy)
    before = compiled.digest(copy, "veil_rx", "xdp")
    assert before == compiled.digest(program.source_dir(), "veil_rx", "xdp")
    assert before != compiled.digest(copy, "veil_ctl", "xdp")
    header = copy / "siphash.h"
    header.write_text(header.read_text() + " ")
    assert compiled.digest(copy, "veil_rx", "xdp") != before


def test_flags_and_other_sources_are_compiled_every_time(pin_dir: Path, cache: Path, tmp_path: Path) -> None:
    shutil.copy(program.source_dir() / "xdp_pass.c", tmp_path)
    program.load(str(tmp_path / "xdp_pass.c"), pin_dir).close()
    program.load("xdp_pass.c", pin_dir, cflags=["-DX=1"]).close()
    assert not cache.exists()


def test_another_machine_takes_what_was_compiled_for_it(
    pin_dir: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = compiled.Machine("6.1.0-56-amd64", "/opt/veilnet/headers")
    files = dataplane.compile_for(there, "compiletest")
    assert len(files) == len(dataplane.PROGRAMS[dataplane.CONFLUX]) == len(set(files.values()))
    assert not pins.instance_dir("compiletest").exists()
    cache.rename(tmp_path / "here")
    cache.mkdir(mode=0o700)
    for name, text in files.items():
        (cache / name).write_bytes(text)
    pins.create_maps(pin_dir)
    assert compiles(pin_dir, monkeypatch), "for another kernel than this"
    monkeypatch.setattr(compiled, "this_machine", lambda: there)
    assert not compiles(pin_dir, monkeypatch)
