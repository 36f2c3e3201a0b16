# SPDX-License-Identifier: Apache-2.0
"""What `status --json` shows: state of links, circuits and streams, counters, timings. Never keys."""

from __future__ import annotations

from typing import Any

from veilnet.keyd.circuits import Circuits
from veilnet.keyd.core import Core
from veilnet.keyd.legs import Leg, Legs
from veilnet.keyd.link import Link
from veilnet.keyd.links import Links
from veilnet.keyd.stream import Stream
from veilnet.keyd.streams import Streams
from veilnet.protocol.transcript import PROTOCOL_NAME


def snapshot(
    core: Core, *, links: Links, circuits: Circuits, legs: Legs, streams: Streams, redirects: bool, data_frames: int
) -> dict[str, Any]:
    own = core.directory.nodes.get(core.own.node_id)
    return {
        "node": {
            "id": core.own.node_id.hex(),
            "name": own.name if own else None,
            "roles": sorted(own.roles) if own else [],
            "ipv4": str(own.ipv4) if own else None,
            "ipv6": str(own.ipv6) if own else None,
            "draining": core.drained(),
        },
        "realm": core.directory.realm.hex(),
        "version": core.directory.version,
        "known": {"nodes": len(core.directory.nodes), "edges": len(core.directory.edges)},
        "suite": PROTOCOL_NAME.decode(),
        "links": [_link(core, link) for _, link in sorted(links.by_index.items())],
        "legs": [_leg(core, leg) for _, leg in sorted(legs.by_label.items())],
        "streams": [_stream(core, stream) for _, stream in sorted(streams.by_index.items())],
        "networks": _networks(core, streams),
        "building": [[core.name(node) for node in circuit.path] for circuit in circuits.building],
        "emit": "redirect" if redirects else "tc",
        "waiting": len(streams.builder.queue),
        "first_packet_ms": streams.builder.first_packet_ms,
        "data_frames": data_frames,
        "counters": dict(sorted(core.counters.items())),
        "data_plane": core.plane.reasons(),
    }


def _networks(core: Core, streams: Streams) -> dict[str, Any]:
    networks = streams.networks
    return {
        "own": [str(network) for network in networks.own()],
        "offered": [str(network) for network in core.networks.offered],
        "not_offered": [str(network) for network in networks.not_offered()],
        "unusable": [str(network) for network in networks.unusable()],
        "accepting": core.networks.accept,
        "accepted": {str(network): core.name(node) for network, node in networks.via.items()},
    }


def _link(core: Core, link: Link) -> dict[str, Any]:
    stats = core.plane.link_stats(link.index)
    return {
        "index": link.index,
        "peer": core.name(link.peer),
        "state": link.state.value,
        "initiator": link.initiator,
        "remote": f"{link.addrs.remote}:{link.addrs.rport}",
        "local": f"{link.addrs.local}:{link.addrs.lport}",
        "mtu": link.mtu,
        "epoch": link.session.epoch if link.session else None,
        "rx_frames": stats.rx_frames,
        "circuits": len(link.labels),
        "rtt_ms": link.rtt_ms,
        "age_s": round(core.now - link.since, 3),
    }


def _leg(core: Core, leg: Leg) -> dict[str, Any]:
    """A relay knows two neighbours; so that is all there is to show."""
    return {
        "label": leg.label,
        "state": leg.state.value,
        "previous": core.name(leg.link.peer),
        "next": core.name(leg.next_link.peer) if leg.next_link else None,
    }


def _stream(core: Core, stream: Stream) -> dict[str, Any]:
    stats = core.plane.stream_stats(stream.index)
    path = getattr(stream.carrier, "path", None)
    return {
        "index": stream.index,
        "peer": core.name(stream.peer),
        "up": stream.ready and not stream.closing,
        "initiator": stream.initiator,
        "path": [core.name(node) for node in path] if path else None,
        "epoch": stream.session.epoch,
        "rx_frames": stats.rx_frames,
        "tx_frames": stats.tx_counters[stats.tx_slot],
        "rtt_ms": stream.rtt_ms,
        "age_s": round(core.now - stream.since, 3),
    }
