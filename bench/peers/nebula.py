# SPDX-License-Identifier: Apache-2.0
"""Nebula with its default settings and without a lighthouse: both ends know each other's address."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.netrig import WIRE_A, WIRE_ADDRESS_A, WIRE_ADDRESS_B, WIRE_B, sh, wire
from bench.pair import Pair, Tunnel, answers, daemon, wait_for
from bench.peers import tools

PORT = 4242
MTU = 1300  # Nebula's default
ENDS = ((WIRE_A, "a", "10.80.0.1", WIRE_ADDRESS_A), (WIRE_B, "b", "10.80.0.2", WIRE_ADDRESS_B))


def tunnels() -> dict[str, Tunnel]:
    """Name with version → tunnel, if it is installed."""
    binary, cert = tools.find("nebula"), tools.find("nebula-cert")
    if binary is None or cert is None:
        return {}
    return {f"nebula {tools.go_version(binary, 'github.com/slackhq/nebula')}": partial(_up, binary, cert)}


@contextmanager
def _up(binary: Path, cert: Path, offload: bool) -> Iterator[Pair]:
    with ExitStack() as undo:
        undo.enter_context(wire(offload=offload))
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        sh(f"cd {folder}; {cert} ca -name bench")
        for (space, name, inner, outer), (_, _, other_inner, other_outer) in zip(ENDS, reversed(ENDS), strict=True):
            sh(f"cd {folder}; {cert} sign -name {name} -ip {inner}/24")
            path = folder / f"{name}.yml"
            path.write_text(json.dumps(_config(folder, name, outer, (other_inner, other_outer))), encoding="utf-8")
            undo.enter_context(daemon(space, [str(binary), "-config", str(path)], folder / f"{name}.log"))
        pair = Pair(WIRE_A, WIRE_B, ENDS[1][2])
        wait_for("nebula", partial(answers, pair))
        yield pair


def _config(folder: Path, name: str, outer: str, other: tuple[str, str]) -> dict[str, Any]:
    """JSON is YAML. `outer` is our underlay address, `other` the peer's overlay and underlay address."""
    anyone = [{"port": "any", "proto": "any", "host": "any"}]
    return {
        "pki": {"ca": str(folder / "ca.crt"), "cert": str(folder / f"{name}.crt"), "key": str(folder / f"{name}.key")},
        "static_host_map": {other[0]: [f"{other[1]}:{PORT}"]},
        "lighthouse": {"am_lighthouse": False},
        "listen": {"host": outer, "port": PORT},
        "tun": {"dev": f"vbneb{name}", "mtu": MTU},
        "firewall": {"outbound": anyone, "inbound": anyone},
    }
