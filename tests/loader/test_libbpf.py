# SPDX-License-Identifier: Apache-2.0
"""Calls into libbpf that the other tests do not reach: ring buffer, live frames, key iteration."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from veilnet.loader import libbpf, pins, program
from veilnet.loader.libbpf import BpfError, RingBuffer

pytestmark = pytest.mark.root

SAY = """#include <uapi/linux/bpf.h>
#include "maps.h"
int say(struct xdp_md *ctx)
{
	u64 word = ctx->data_end - ctx->data;
	events.ringbuf_output(&word, sizeof(word), 0);
	return XDP_DROP;
}
"""


def test_ring_buffer_gives_records_in_order(pin_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "say.c").write_text(SAY)
    pins.create_maps(pin_dir)
    fd = libbpf.obj_get(pin_dir / "events")
    ring = RingBuffer(fd)
    with program.load(str(tmp_path / "say.c"), pin_dir) as say:
        assert ring.consume() == [] and select.select([ring.fileno()], [], [], 0)[0] == []
        for size in (60, 61, 62):
            libbpf.test_run(say.fd, bytes(size))
        assert select.select([ring.fileno()], [], [], 1)[0] == [ring.fileno()]
        assert [int.from_bytes(r, "little") for r in ring.consume()] == [60, 61, 62]
        libbpf.test_run(say.fd, bytes(63))
        assert ring.poll(1000) == [(63).to_bytes(8, "little")]
        assert ring.poll(0) == []
    ring.close()
    ring.close()
    os.close(fd)


def test_ring_buffer_needs_a_ring(pin_dir: Path) -> None:
    pins.create_maps(pin_dir)
    fd = libbpf.obj_get(pin_dir / "links")
    with pytest.raises(BpfError, match="open ring buffer"):
        RingBuffer(fd)
    os.close(fd)


def test_repeat_and_live_frames_run_as_often_as_asked(pin_dir: Path) -> None:
    pins.create_maps(pin_dir)
    fd = libbpf.obj_get(pin_dir / "reasons")
    cpus = libbpf.num_possible_cpus()

    def total() -> int:
        values = [libbpf.map_lookup(fd, key, 8 * cpus) for key in libbpf.map_keys(fd, 4)]
        return sum(int.from_bytes(v[i : i + 8], "little") for v in values for i in range(0, 8 * cpus, 8))

    with program.load("veil_seal.c", pin_dir) as seal:
        run = libbpf.test_run(seal.fd, bytes(64), repeat=1000)
        assert (run.verdict, run.data, total()) == (libbpf.XDP_DROP, bytes(64), 1000) and run.duration_ns > 0
        ctx = libbpf.xdp_ctx(64, ingress_ifindex=1)
        libbpf.test_run(seal.fd, bytes(64), repeat=500, ctx_in=ctx, live_frames=True, batch=50)
        assert total() == 1500
    os.close(fd)


def test_keys_may_be_deleted_while_they_are_listed() -> None:
    fd = libbpf.map_create("t", "hash", 4, 4, 64)
    for i in range(64):
        libbpf.map_update(fd, i.to_bytes(4, "little"), bytes(4))
    seen = []
    for key in libbpf.map_keys(fd, 4):
        libbpf.map_delete(fd, key)
        seen.append(key)
    assert len(set(seen)) == len(seen) == 64 and list(libbpf.map_keys(fd, 4)) == []
    os.close(fd)
