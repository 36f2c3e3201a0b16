# SPDX-License-Identifier: Apache-2.0
"""Put the pass-all XDP program on devices of this namespace: `python -m veilnet.lab.xdp_pass DEVICE...`.

A veth end takes redirected frames only when its peer polls (NAPI), which an XDP program on it brings about.
"""

from __future__ import annotations

import sys
from pathlib import Path

from veilnet.loader import attach, program


def main() -> int:
    with program.load("xdp_pass.c", Path("/sys/fs/bpf")) as loaded:
        for device in sys.argv[1:]:
            attach.attach_xdp(device, loaded.fd, ours=())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
