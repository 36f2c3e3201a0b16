# SPDX-License-Identifier: Apache-2.0
"""Every shipped topology does what its file says: who reaches whom, and at which MTU, to the byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from veilnet.lab import measure
from veilnet.lab.check import check
from veilnet.lab.lab import Lab
from veilnet.lab.topology import builtin, parse
from veilnet.lab.topology.expect import Expectations

pytestmark = [pytest.mark.lab, pytest.mark.root]

# h1 ─ home ─ carrier ─┐
#                      r1 ─ h3        carrier-grade NAT; a stateful firewall; ICMP blocked; both families
# h2 ── fw ────────────┤
# h4 ── mute ──────────┘
CORNERS = """\
name: corners
underlay: {ipv4: 198.18.0.0/15, ipv6: "fd77::/48"}
nodes:
  master: {role: master}
  h1: {role: host}
  home: {role: nat, mapping: endpoint-independent, filtering: address-dependent, outside: carrier}
  carrier: {role: nat, mapping: address-and-port-dependent, filtering: address-and-port-dependent, outside: r1}
  r1: {role: router}
  h2: {role: host}
  fw: {role: router, filtering: address-and-port-dependent, outside: r1}
  h4: {role: host}
  mute: {role: router, icmp: blocked}
  h3: {role: host}
  h5: {role: host}
links:
  - [h1, home]
  - [home, carrier]
  - {ends: [carrier, r1], mtu: 1480}
  - [h2, fw]
  - [fw, r1]
  - [h4, mute]
  - [mute, r1]
networks:
  lan:
    mtu: 1400
    nodes: {r1: {}, h3: {delay: 5ms, in: {mtu: 1300}}, h5: {loss: 20%}}
"""


def wrong(lab: Lab) -> list[str]:
    return [str(verdict) for verdict in check(lab) if not verdict.good]


@pytest.mark.parametrize("topology", builtin())
def test_shipped_topology_is_as_its_file_says(make_lab: Callable[[str], Lab], topology: str) -> None:
    assert wrong(make_lab(topology)) == []


def test_corners_are_as_the_file_says(make_lab: Callable[[str], Lab], tmp_path: Path) -> None:
    (tmp_path / "corners.yml").write_text(CORNERS)
    assert wrong(make_lab(str(tmp_path / "corners.yml"))) == []


def test_corners_expect_what_a_reader_expects() -> None:
    topology = parse(CORNERS)
    found = {(each.source, each.target, str(each.address)): each.mtu for each in Expectations(topology).all()}

    def mtus(source: str, target: str, version: int = 4) -> set[int | None]:
        return {mtu for (a, b, ip), mtu in found.items() if (a, b, 6 if ":" in ip else 4) == (source, target, version)}

    assert mtus("h1", "h3") == {1300}, "through two NATs, out and back"
    assert mtus("h3", "h1") == {None}
    assert mtus("h2", "h3") == mtus("h2", "h3", 6) == {1300}
    assert mtus("h3", "h2") == mtus("h3", "h2", 6) == {None}, "a stateful firewall"
    assert mtus("h4", "h3") == mtus("h4", "h3", 6) == {None}, "ICMP blocked"
    assert mtus("h3", "h5") == {1300}, "the reply meets the hole on the leg of h3, inbound"
    assert mtus("h1", "h3", 6) == {None}, "no IPv6 behind a NAT"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["ip", "link", "set", "u-c1", "mtu", "1400"], "g1 -> c1 (10.77.0.1): MTU 1500 by the file, no answer"),
        (["ip", "link", "set", "u-g2", "down"], "g1 -> g2 (10.77.0.6): no answer, the file says it is reached"),
        (["ip", "route", "add", "10.77.0.12/30", "via", "10.77.0.6"], ""),
    ],
)
def test_check_sees_what_differs(make_lab: Callable[[str], Lab], command: list[str], told: str) -> None:
    lab = make_lab("line3")
    measure.output(lab, "g1", command)
    found = wrong(lab)
    assert bool(found) == bool(told)
    assert not told or any(line.startswith(told) for line in found), found
