# SPDX-License-Identifier: Apache-2.0
"""VeilNet's side of the tunnel benchmark: a lab of two Confluxes and one Guardian, brought up through the CLI."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.pair import Pair, answers, wait_for
from veilnet.lab.fleet import Fleet
from veilnet.lab.lab import Lab

TOPOLOGY = Path(__file__).parent / "topologies" / "via1.yml"
NAME = os.environ.get("VEILNET_LAB_PREFIX", "") + "bench"


@contextmanager
def tunnel(_offload: bool = False) -> Iterator[Pair]:
    """c1 to c2 through g1. XDP on the underlay keeps its segmentation offload off in any case."""
    lab = Lab(NAME)
    lab.up(str(TOPOLOGY))
    try:
        fleet = Fleet(lab)
        fleet.start(partial(print, file=sys.stderr))
        pair = Pair(
            lab.namespace("c1"), lab.namespace("c2"), fleet.overlay_address("c2"), (fleet.pid("c1"), fleet.pid("g1"))
        )
        wait_for("stream between the Confluxes", partial(answers, pair), 30.0)
        yield pair
    finally:
        lab.down()
