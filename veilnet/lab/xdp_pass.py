# SPDX-License-Identifier: Apache-2.0
"""Put the pass-all XDP program on devices: `python -m veilnet.lab.xdp_pass NAMESPACE/DEVICE...`, full paths.

A veth end takes redirected frames only when its peer polls (NAPI), which an XDP program on it brings about. A process
of its own, because the compiler takes 130 MB.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from veilnet.lab.enter import inside
from veilnet.loader import attach, program


def main() -> int:
    with program.load("xdp_pass.c", Path("/sys/fs/bpf")) as loaded:
        for place in map(Path, sys.argv[1:]):
            inside(place.parent, partial(attach.attach_xdp, place.name, loaded.fd, ours=()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
