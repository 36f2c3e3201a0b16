# SPDX-License-Identifier: Apache-2.0
"""Pictures of every shipped topology, drawn by Graphviz."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from veilnet.lab import graph
from veilnet.lab.journal import LabError
from veilnet.lab.topology.parse import builtin, load

_SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", builtin())
def test_every_shipped_topology_can_be_drawn(name: str, tmp_path: Path) -> None:
    topology = load(name)
    graph.draw(topology, tmp_path / "t.svg")
    root = ElementTree.parse(tmp_path / "t.svg").getroot()  # noqa: S314 - Graphviz' own output
    classes = [element.get("class") for element in root.iter(f"{_SVG}g")]
    drawn = len(topology.nodes) - len(topology.light) + bool(topology.light) + len(topology.networks)
    assert classes.count("node") == drawn
    assert classes.count("edge") == len(topology.every_link)


def test_png_and_wrong_names(tmp_path: Path) -> None:
    graph.draw(load("pair"), tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(LabError, match=r"\.svg or \.png"):
        graph.draw(load("pair"), tmp_path / "t.gif")
    with pytest.raises(LabError, match=r"nowhere/t\.svg: No such file"):
        graph.draw(load("pair"), tmp_path / "nowhere" / "t.svg")


def test_a_missing_tool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="apt-get install graphviz"):
        graph.draw(load("pair"), tmp_path / "t.svg")
