# SPDX-License-Identifier: Apache-2.0
"""WireGuard in user space: wireguard-go and boringtun, both configured by `wg` through the same socket."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench.netrig import WIRE_A, WIRE_ADDRESS_A, WIRE_ADDRESS_B, WIRE_B, sh, wire
from bench.pair import Pair, Tunnel, answers, daemon, wait_for
from bench.peers import tools

PORT = 51820
SOCKETS = Path("/var/run/wireguard")
MTU = 1420  # wg-quick's choice over 1500
ENDS = ((WIRE_A, "vbwg0", "10.79.0.1", WIRE_ADDRESS_A), (WIRE_B, "vbwg1", "10.79.0.2", WIRE_ADDRESS_B))


def tunnels() -> dict[str, Tunnel]:
    """Name with version → tunnel, of the implementations that are installed."""
    found: dict[str, Tunnel] = {}
    go, boringtun = tools.find("wireguard", "wireguard-go"), tools.find("boringtun-cli")
    if go and tools.find("wg"):
        found[f"wireguard-go {tools.go_version(go, 'golang.zx2c4.com/wireguard')}"] = partial(_up, [str(go), "-f"])
    if boringtun and tools.find("wg"):
        version = subprocess.run([boringtun, "--version"], capture_output=True, text=True, check=True).stdout.split()[
            -1
        ]
        found[f"boringtun {version}"] = partial(_up, [str(boringtun), "-f", "--disable-drop-privileges"])
    return found


@contextmanager
def _up(command: list[str], offload: bool) -> Iterator[Pair]:
    with ExitStack() as undo:
        undo.enter_context(wire(offload=offload))
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        public = {}
        for space, device, address, _ in ENDS:
            undo.enter_context(daemon(space, [*command, device], folder / f"{device}.log"))
            wait_for(device, (SOCKETS / f"{device}.sock").exists)
            public[device] = _key(folder / device)
            sh(f"ip addr add {address}/24 dev {device}; ip link set {device} mtu {MTU} up", space)
        for (space, device, _, _), (_, other, inner, outer) in zip(ENDS, reversed(ENDS), strict=True):
            peer = f"peer {public[other]} allowed-ips {inner}/32 endpoint {outer}:{PORT}"
            sh(f"wg set {device} listen-port {PORT} private-key {folder / device} {peer}", space)
        pair = Pair(WIRE_A, WIRE_B, ENDS[1][2])
        wait_for("tunnel", partial(answers, pair))
        yield pair


def _key(path: Path) -> str:
    """Make a private key in `path`; the public one."""
    path.touch(0o600)
    path.write_text(sh("wg genkey"), encoding="ascii")
    return sh(f"wg pubkey < {path}").strip()
