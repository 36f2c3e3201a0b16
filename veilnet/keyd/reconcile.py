# SPDX-License-Identifier: Apache-2.0
"""Make the data plane hold what the engine thinks it holds: after a restart, and every few seconds."""

from __future__ import annotations

from veilnet.contract import LINK_UNSET, STREAM_UNSET
from veilnet.keyd import dataplane
from veilnet.keyd.circuits import Circuits
from veilnet.keyd.core import Core
from veilnet.keyd.legs import Legs
from veilnet.keyd.links import Links
from veilnet.keyd.streams import Streams


class Reconciler:
    """What is too much goes; a circuit or route that is missing or wrong is written again; a link or stream that the
    data plane has lost is dropped, because its counters and windows are lost with it."""

    def __init__(self, core: Core, links: Links, circuits: Circuits, legs: Legs, streams: Streams) -> None:
        self._core, self._links, self._circuits, self._legs, self._streams = core, links, circuits, legs, streams

    def run(self) -> None:
        self._check_links()
        self._check_streams()
        self._check_circuits()
        self._check_routes()
        self._streams.networks.repair()
        self._streams.forget_peers()  # no route leads to them any more

    def _check_links(self) -> None:
        core = self._core
        for link in list(self._links.by_index.values()):
            if core.plane.link_stats(link.index).state == LINK_UNSET:
                self._links.drop(link, "repaired_link")
        for index in core.plane.used_links():
            if index not in core.links:
                core.plane.remove_link(index)
                core.count("repaired_link")

    def _check_streams(self) -> None:
        core = self._core
        for stream in list(self._streams.by_index.values()):
            if core.plane.stream_stats(stream.index).state == STREAM_UNSET:
                self._streams.drop(stream, "repaired_stream")
        for index in core.plane.used_streams():
            if index not in core.streams:
                core.plane.remove_stream(index)
                core.count("repaired_stream")

    def _check_circuits(self) -> None:
        core, wanted = self._core, self._wanted_circuits()
        for label in core.plane.used_labels():
            if label not in wanted:
                core.plane.remove_circuit(label)
                core.count("repaired_circuit")
        for label, circuit in wanted.items():
            if core.plane.circuit(label) != circuit:
                core.plane.put_circuit(label, circuit)
                core.count("repaired_circuit")

    def _wanted_circuits(self) -> dict[int, dataplane.Circuit]:
        wanted = {label: self._circuits.desired(circuit) for label, circuit in self._circuits.by_label.items()}
        wanted |= {label: self._legs.desired(leg) for label, leg in self._legs.by_label.items()}
        spliced = {label: leg for label, leg in self._legs.by_back.items() if leg.next_label}
        return wanted | {label: self._legs.desired_back(leg) for label, leg in spliced.items()}

    def _check_routes(self) -> None:
        core, wanted = self._core, self._streams.desired_routes()
        held = core.plane.routes()
        for network in held.keys() - wanted.keys():
            core.plane.remove_route(network)
            core.count("repaired_route")
        for network, (peer, stream) in wanted.items():
            if held.get(network) != (peer, stream):
                core.plane.put_route(network, peer=peer, stream=stream)
                core.count("repaired_route")
