# SPDX-License-Identifier: Apache-2.0
"""A topology as a picture: DOT text, drawn by Graphviz as SVG or PNG."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from veilnet.lab.journal import LabError
from veilnet.lab.topology.model import Direction, Link, Node, Topology

_SHAPES: Final = {
    "master": ("cylinder", "#e9e3f4"),
    "guardian": ("hexagon", "#d7e8d4"),
    "conflux": ("box", "#d6e4f5"),
    "router": ("circle", "#eeeeee"),
    "nat": ("trapezium", "#f8e4cc"),
    "host": ("ellipse", "#ffffff"),
}
FORMATS: Final = ("svg", "png")
_MANY: Final = 20


def draw(topology: Topology, target: Path) -> None:
    """Into a .svg or .png file. Raises LabError."""
    form = target.suffix.lstrip(".")
    if form not in FORMATS:
        msg = f"{target}: the name ends with .{' or .'.join(FORMATS)}"
        raise LabError(msg)
    tool = shutil.which("dot")
    if tool is None:
        msg = "dot is missing: `sudo ./run setup` installs it, or apt-get install graphviz"
        raise LabError(msg)
    done = subprocess.run([tool, f"-T{form}"], input=dot(topology).encode(), capture_output=True, check=False)
    if done.returncode:
        msg = f"dot ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()[-500:]}"
        raise LabError(msg)
    try:
        target.write_bytes(done.stdout)
    except OSError as error:
        raise LabError(f"{target}: {error.strerror}") from error


def dot(topology: Topology) -> str:
    """DOT text. Light nodes stand as one, since hundreds would hide the rest."""
    lines = [
        f"graph {_quoted(topology.name)} {{",
        '  graph [layout=dot, rankdir=LR, fontname="sans-serif", nodesep=0.4, ranksep=0.8];',
        '  node [fontname="sans-serif", fontsize=12, style=filled]; edge [fontname="sans-serif", fontsize=9];',
    ]
    lines += [_node(node) for node in topology.nodes.values() if not node.light]
    if topology.light:
        lines.append(f'  light [label="{len(topology.light)} light nodes", shape=box3d, fillcolor="#f2f2f2"];')
    for network in topology.networks:
        subnets = "\\n".join(str(subnet) for subnet in network.subnets)
        lines.append(f'  {_quoted(network.name)} [label="{network.name}\\n{subnets}", shape=plaintext, style=""];')
    quiet = len(topology.every_link) > _MANY
    lines += [_link(link, quiet=quiet) for link in topology.every_link]
    return "\n".join([*lines, "}"]) + "\n"


def _node(node: Node) -> str:
    shape, colour = _SHAPES[node.role]
    label = f"{node.name}\\n{node.role}"
    if node.nat:
        label += f"\\nmapping {node.nat.mapping}\\nfiltering {node.nat.filtering}"
    if node.firewall.udp != "open":
        label += f"\\nUDP {node.firewall.udp}"
    if node.firewall.icmp != "open":
        label += f"\\nICMP {node.firewall.icmp}"
    return f'  {_quoted(node.name)} [label="{label}", shape={shape}, fillcolor="{colour}"];'


def _link(link: Link, *, quiet: bool) -> str:
    one, other = link.ends
    words = [] if quiet else [f"MTU {link.mtu}"] * (link.mtu != 1500)
    there, back = (_words(direction) for direction in link.directions)
    if there == back:
        words += there
    else:
        words += [f"{one}→{other}: {', '.join(there) or 'plain'}", f"{other}→{one}: {', '.join(back) or 'plain'}"]
    label = "" if quiet else "\\n".join(words)
    style = "dashed" if link.emulated else "solid"
    return f'  {_quoted(one)} -- {_quoted(other)} [label="{label}", style={style}];'


def _words(direction: Direction) -> list[str]:
    """What differs from a plain wire, shortly."""
    found = []
    if direction.delay:
        jitter = f" ± {direction.jitter * 1000:g}" if direction.jitter else ""
        found.append(f"{direction.delay * 1000:g}{jitter} ms")
    for name, share in (
        ("loss", direction.loss),
        ("reorder", direction.reorder),
        ("duplicate", direction.duplicate),
    ):
        if share:
            found.append(f"{name} {share:.3%}".replace(".000%", "%"))
    if direction.burst:
        found.append(f"bursts {direction.burst.p:.2%}/{direction.burst.r:.2%}")
    if direction.rate:
        found.append(f"{direction.rate / 1e6:g} Mbit/s")
    if direction.mtu:
        found.append(f"hole above {direction.mtu}")
    return found


def _quoted(name: str) -> str:
    return f'"{name}"'
