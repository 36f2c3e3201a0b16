# SPDX-License-Identifier: Apache-2.0
"""Pinned maps: created once, compared with what is expected, the same as bpf/maps.h declares."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.loader.conftest import INSTANCE
from veilnet import contract as c
from veilnet.loader import libbpf, pins, program
from veilnet.loader.libbpf import BpfError, MapInfo

pytestmark = pytest.mark.root


def _info(path: Path) -> MapInfo:
    fd = libbpf.obj_get(path)
    try:
        return libbpf.map_info(fd)
    finally:
        os.close(fd)


def test_created_once_and_kept(pin_dir: Path) -> None:
    pins.create_maps(pin_dir)
    assert {p.name: _info(p) for p in pin_dir.iterdir()} == pins.MAPS
    fd = libbpf.obj_get(pin_dir / "knock_seen")
    libbpf.map_update(fd, b"k" * 8, b"v" * 8)
    pins.create_maps(pin_dir)
    assert libbpf.map_lookup(fd, b"k" * 8, 8) == b"v" * 8
    os.close(fd)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("config", MapInfo("array", 4, 200, 1, libbpf.F_MMAPABLE)),
        ("config", MapInfo("array", 4, 192, 2, libbpf.F_MMAPABLE)),
        ("config", MapInfo("array", 4, 192, 1, 0)),
        ("knock_seen", MapInfo("hash", 8, 8, c.KNOCK_SEEN, 0)),
        ("links_wide", MapInfo("hash", 40, 4, c.LINKS, 0)),
    ],
    ids=["value", "entries", "flags", "type", "key"],
)
def test_other_layout_is_refused(pin_dir: Path, name: str, found: MapInfo) -> None:
    pin_dir.mkdir(parents=True)
    sizes = (found.key_size, found.value_size, found.max_entries)
    fd = libbpf.map_create(name, found.type, *sizes, flags=found.flags)
    libbpf.obj_pin(fd, pin_dir / name)
    os.close(fd)
    with pytest.raises(pins.PinMismatchError, match=f"{name} is .*expected"):
        pins.create_maps(pin_dir)


def test_maps_h_declares_the_same(pin_dir: Path, tmp_path: Path) -> None:
    """With nothing pinned but the ring buffer, bcc creates the maps itself: compare what it makes."""
    pins.create_maps(pin_dir)
    arrays = {"config", "link_buckets", "links", "circuits", "streams", "event_share"}
    theirs = arrays | {"links_wide", "routes", "networks", "knock_seen", "knock_sources", "reasons"}
    for name in theirs:
        (pin_dir / name).unlink()
    source = tmp_path / "all.c"
    source.write_text('#include <uapi/linux/bpf.h>\n#include "maps.h"\nint all(struct xdp_md *x) { return 2; }\n')
    program.load(str(source), pin_dir).close()
    assert {name: _info(pin_dir / name) for name in theirs} == {name: pins.MAPS[name] for name in theirs}
    declared = set(re.findall(r"VEIL_PINS \"/(\w+)\"", (program.source_dir() / "maps.h").read_text()))
    assert declared | arrays == theirs | {"events"}


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "../x", "x" * 33, "ü"])
def test_instance_names(name: str) -> None:
    with pytest.raises(ValueError, match="instance name"):
        pins.instance_dir(name)


def test_program_is_replaced_in_one_step(pin_dir: Path) -> None:
    pins.create_maps(pin_dir)
    with program.load("xdp_pass.c", pin_dir) as one, program.load("xdp_pass.c", pin_dir) as two:
        one.pin(pin_dir)
        stale = pins.stage_program(one.fd, pin_dir, "xdp_pass")  # as an interrupted run leaves it
        staged = pins.stage_program(two.fd, pin_dir, "xdp_pass")
        assert set(pins.program_ids(INSTANCE)) == {one.id, two.id}
        pins.commit_program(staged, "xdp_pass")
        assert pins.program_ids(INSTANCE) == {two.id: pin_dir / "prog_xdp_pass"}
        assert not stale.exists()


def test_errors_say_what(pin_dir: Path) -> None:
    with pytest.raises(BpfError, match=f"open pin {pin_dir}/links: No such file"):
        libbpf.obj_get(pin_dir / "links")
    with pytest.raises(program.ProgramError, match="verdict_of_nobody"):
        program.load("xdp_pass.c", pin_dir, function="verdict_of_nobody")


def test_refused_program_carries_the_verifiers_log(pin_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "bad.c"
    source.write_text("#include <uapi/linux/bpf.h>\nint bad(struct xdp_md *x) { return *(int *)(long)x->data; }\n")
    with pytest.raises(program.ProgramError, match="invalid access to packet"):
        program.load(str(source), pin_dir)
