# SPDX-License-Identifier: Apache-2.0
"""Faults of the Master: away, or slow to reach.

`lag` takes the Master's port off the management bridge and puts an emulator of its own between the two:

    mgmt0 ══ m-master ── emulator ── lag0 ═veth═ lag1 ── br0
"""

from __future__ import annotations

import contextlib
from typing import Final

from veilnet.lab import net, wire
from veilnet.lab.faults import nodes
from veilnet.lab.faults.words import MasterFault
from veilnet.lab.fleet import Fleet
from veilnet.lab.journal import LabError
from veilnet.lab.lab import Lab
from veilnet.lab.topology.model import Direction

_LAG: Final = ("lag0", "lag1")
# Whole frames with their checksums: an emulator carries nothing else.
_PLAIN: Final = "for nic in {nics}; do ethtool -K $nic tx {on} tso {on} gso {on} gro {on} >/dev/null || exit 1; done"


def check(fleet: Fleet) -> None:
    if not nodes.running(fleet):
        raise LabError(f"lab {fleet.lab.name} is bare: no Master runs in it; make it without --bare")


def apply(fleet: Fleet, fault: MasterFault) -> None:
    """Raises LabError."""
    if fault.verb == "stop":
        nodes.kill_daemon(fleet, fleet.topology.master.name)
    elif fault.verb == "start":
        start(fleet)
    else:
        lag(fleet.lab, fault.seconds)


def start(fleet: Fleet) -> None:
    if nodes.daemon(fleet, fleet.topology.master.name) is None:
        fleet.start_master()


def lag(lab: Lab, seconds: float) -> None:
    """Each way takes `seconds` longer, so a round trip twice that."""
    spec = _spec(lab)
    if not _lagging(lab):
        _interpose(lab, spec)
    for index in (0, 1):
        wire.change(spec, index, Direction(delay=seconds))


def unlag(lab: Lab) -> None:
    """As it was, in whatever state it is."""
    with contextlib.suppress(wire.WireError), wire.Control(lab.control("lag"), patience=0) as control:
        control.stop()
    home, name = lab.namespace(net.MGMT), lab.topology.master.name
    if _lagging(lab):
        net.ip(home, f"link del {_LAG[0]}")
        _offloads(home, f"m-{name}", on=True)
        _offloads(lab.namespace(name), net.MGMT_NIC, on=True)
    net.ip(home, f"link set dev m-{name} master br0")


def _spec(lab: Lab) -> wire.WireSpec:
    ends = (f"m-{lab.topology.master.name}", _LAG[0])
    return wire.WireSpec(
        ends, (Direction(), Direction()), lab.topology.seed, lab.control("lag"), lab.directory / "lag.log"
    )


def _lagging(lab: Lab) -> bool:
    return any(port["ifname"] == _LAG[0] for port in net.ports(lab.namespace(net.MGMT)))


def _interpose(lab: Lab, spec: wire.WireSpec) -> None:
    home, port = lab.namespace(net.MGMT), spec.devices[0]
    net.ip(home, f"link add name {_LAG[0]} type veth peer name {_LAG[1]}")
    _offloads(home, " ".join([port, *_LAG]), on=False)
    _offloads(lab.namespace(lab.topology.master.name), net.MGMT_NIC, on=False)
    net.ip(
        home,
        f"link set dev {_LAG[1]} master br0 up",
        f"link set dev {_LAG[0]} up",
        f"link set dev {port} nomaster",
    )
    wire.start(home, spec)


def _offloads(namespace: str, nics: str, *, on: bool) -> None:
    net.run([*net.in_namespace(namespace), "sh", "-c", _PLAIN.format(nics=nics, on="on" if on else "off")])
