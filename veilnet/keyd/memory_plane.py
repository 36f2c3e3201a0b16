# SPDX-License-Identifier: Apache-2.0
"""A data plane in Python: the same Protocol as the BPF maps, the same decisions as the programs, no root.

Frames are really sealed and opened, so a test that loses a packet here has found a fault of the engine. What an input
leads to comes back as a list of outputs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address

from veilnet import contract as c
from veilnet.keyd.dataplane import Addrs, Circuit, IpAddress, KnockKey, LinkStats, SealRefusedError, SipKey, StreamStats
from veilnet.keyd.memory_entries import Control, Deliver, Emit, Knock, LinkEntry, NoStream, Output, Rx, StreamEntry, Tx
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.frame import (
    LABEL_BITS,
    LABEL_MAX,
    Frame,
    ReplayWindow,
    open_frame,
    open_header,
    open_stream,
    open_stream_header,
    seal_frame,
    seal_stream,
    sip,
)
from veilnet.protocol.networks import IpNetwork

__all__ = ["Control", "Deliver", "Emit", "Knock", "MemoryPlane", "NoStream", "Output"]


class MemoryPlane:
    """See `veilnet.keyd.dataplane.DataPlane`; `receive` and `send_inner` are the two programs."""

    def __init__(self, knock_port: int) -> None:
        self.knock_port = knock_port
        self._links: dict[int, LinkEntry] = {}
        self._circuits: dict[int, Circuit] = {}
        self._circuit_seen: dict[int, int] = {}
        self._streams: dict[int, StreamEntry] = {}
        self._routes: dict[IpNetwork, tuple[int, int]] = {}
        self._networks: dict[tuple[int, IpNetwork], tuple[int, int]] = {}
        self._knock: list[KnockKey | None] = [None, None]
        self._knock_seen: set[bytes] = set()
        self._states: dict[tuple[int, int], bytes] = {}
        self._reasons: Counter[str] = Counter()
        self._jiffies = 0
        self.redirect = False

    # ---- the programs --------------------------------------------------------------------------------------------

    def receive(self, addrs: Addrs, payload: bytes) -> list[Output]:  # noqa: PLR0911 - one exit a reason, as in BPF
        """A UDP datagram from the underlay, `addrs` as this node sees it."""
        if len(payload) < c.FRAME_MIN:
            return self._exit("PASS_TRUNCATED")
        index = next((i for i, link in self._links.items() if link.addrs == addrs), 0)
        if index and self._links[index].state == c.LINK_UP:
            frame = self._open_link(index, payload)
            if isinstance(frame, Frame):
                return self._framed(index, frame)
            if frame == "PASS_LINK_REPLAY" or addrs.lport != self.knock_port or len(payload) != c.HS_LEN:
                return self._exit(frame)
        if index and self._links[index].state == c.LINK_PENDING:
            link = self._links[index]
            if not isinstance(link.rx[0].key, SipKey) or link.full is None:
                return self._exit("PASS_KNOCK_TAG")
            key = KnockKey(link.rx[0].key.mac, link.rx[0].key.enc, link.full)
            return self._knocked(addrs, payload, [(0, key)], index)
        if addrs.lport != self.knock_port or len(payload) != c.HS_LEN:
            return self._exit("PASS_NO_LINK")
        return self._knocked(addrs, payload, [(i, key) for i, key in enumerate(self._knock) if key], 0)

    def send_inner(self, packet: bytes) -> list[Output]:
        """An inner IP packet from the host."""
        route = self._owner(_address(packet, source=False), c.SCOPE_TO)
        if route is None or route[0] in {c.PEER_NONE, c.PEER_SELF}:
            return self._exit("DROP_INNER_DST")
        peer, stream = route
        entry = self._streams.get(stream)
        if not stream or entry is None or entry.state != c.STREAM_UP:
            return [*self._exit("OK_WAIT"), NoStream(peer, packet)]
        tx = entry.tx[entry.tx_slot]
        if not isinstance(tx.key, bytes):
            return self._exit("DROP_STREAM_DOWN")
        body = seal_stream(tx.key, entry.tx_hp, tx.counter, 0, entry.tx_slot, packet)
        tx.counter += 1
        entry.tx_seen = self._tick()
        return self._emit(entry.out_link, entry.out_label, entry.budget, body, "OK_SEAL")

    def _knocked(self, addrs: Addrs, payload: bytes, keys: list[tuple[int, KnockKey]], link: int) -> list[Output]:
        if len(payload) != c.HS_LEN:
            return self._exit("PASS_KNOCK_TAG")
        for slot, key in keys:
            try:
                header = int.from_bytes(open_header(key.mac, key.enc, payload), "little")
            except RemoteError:
                continue
            body = payload[c.FRAME_LEN :]
            digest = int.from_bytes(sip(key.full, body), "little") & ((1 << 40) - 1)
            if header & LABEL_MAX or header >> LABEL_BITS != digest:
                return self._exit("PASS_KNOCK_BODY")
            if payload[: c.TAG_LEN] in self._knock_seen:
                return self._exit("PASS_KNOCK_REPLAY")
            self._knock_seen.add(payload[: c.TAG_LEN])
            if link:
                return [*self._exit("OK_CONTROL"), Control(link, 0, 0, body)]
            return [*self._exit("OK_KNOCK"), Knock(addrs, slot, body)]
        return self._exit("PASS_KNOCK_TAG")

    def _open_link(self, index: int, payload: bytes) -> Frame | str:
        link = self._links[index]
        for slot in (link.rx_hint, 1 - link.rx_hint):
            rx = link.rx[slot]
            if not isinstance(rx.key, SipKey) or rx.window is None:
                continue
            try:
                frame = open_frame(rx.key.mac, rx.key.enc, payload)
            except RemoteError:
                continue
            if not rx.window.accept(frame.counter):
                return "PASS_LINK_REPLAY"
            link.rx_hint = slot
            link.rx_seen = self._tick()
            link.rx_frames += 1
            return frame
        return "PASS_LINK_TAG"

    def _framed(self, index: int, frame: Frame) -> list[Output]:
        if frame.label == 0:
            return [*self._exit("OK_CONTROL"), Control(index, 0, 0, frame.body)]
        circuit = self._circuits.get(frame.label)
        if circuit is None or circuit.in_link != index:
            return self._exit("DROP_LABEL")
        self._circuit_seen[frame.label] = self._tick()
        if circuit.kind == c.CIRCUIT_FORWARD:
            if frame.budget == 0:
                return self._exit("DROP_BUDGET")
            return self._emit(circuit.out_link, circuit.out_label, frame.budget - 1, frame.body, "OK_FORWARD")
        if circuit.kind == c.CIRCUIT_LOCAL:
            return [*self._exit("OK_CONTROL"), Control(index, frame.label, 0, frame.body)]
        return self._open_stream(index, frame, circuit)

    def _open_stream(self, index: int, frame: Frame, circuit: Circuit) -> list[Output]:  # noqa: PLR0911
        control = Control(index, frame.label, circuit.stream, frame.body)
        grace = circuit.flags & c.CIRCUIT_F_HS_GRACE and len(frame.body) == c.HS_BODY_LEN
        entry = self._streams.get(circuit.stream)
        if entry is None or entry.state != c.STREAM_UP:
            return self._exit("DROP_STREAM_DOWN")
        try:
            if len(frame.body) == c.HS_BODY_LEN and open_stream_header(entry.rx_hp, frame.body).lane == c.LANE_CONTROL:
                return [*self._exit("OK_CONTROL"), control]
            keys = {slot: rx.key for slot, rx in enumerate(entry.rx) if isinstance(rx.key, bytes)}
            opened = open_stream(keys, entry.rx_hp, frame.body)
        except RemoteError as error:
            if grace:
                return [*self._exit("OK_CONTROL"), control]
            names = {Reason.AUTH: "DROP_STREAM_AUTH", Reason.SLOT: "DROP_STREAM_DOWN"}
            return self._exit(names.get(error.reason, "DROP_STREAM_HDR"))
        window = entry.rx[opened.slot].window
        if window is None or not window.accept(opened.counter):
            return self._exit("DROP_STREAM_REPLAY")
        entry.rx_seen = self._tick()
        entry.rx_frames += 1
        source = self._owner(_address(opened.inner, source=True), entry.peer)
        if source is None or source[0] != entry.peer:
            return self._exit("DROP_INNER_SRC")
        target = self._owner(_address(opened.inner, source=False), c.PEER_SELF)
        if target is None or target[0] != c.PEER_SELF:
            return self._exit("DROP_INNER_NOT_OURS")
        return [*self._exit("OK_OPEN"), Deliver(opened.inner)]

    def _emit(self, link: int, label: int, budget: int, body: bytes, reason: str) -> list[Output]:
        entry = self._links.get(link)
        if entry is None or entry.state != c.LINK_UP or entry.addrs is None:
            return self._exit("DROP_LINK_DOWN")
        return [*self._exit(reason), Emit(entry.addrs, self._seal(link, label, budget, body))]

    def _exit(self, reason: str) -> list[Output]:
        self._reasons[reason] += 1
        return []

    def _tick(self) -> int:
        self._jiffies += 1
        return self._jiffies

    def _owner(self, address: IpAddress | None, scope: int) -> tuple[int, int] | None:
        """Networks are asked only for what is nobody's overlay address."""
        if address is None:
            return None
        networks = {network: target for (held, network), target in self._networks.items() if held == scope}
        return _longest(self._routes, address) or _longest(networks, address)

    # ---- links ---------------------------------------------------------------------------------------------------

    def put_link(
        self, link: int, addrs: Addrs, *, state: int, ifindex: int, mtu: int, full: bytes | None = None
    ) -> None:
        entry = self._links.setdefault(link, LinkEntry())
        entry.ifindex, entry.mtu, entry.full = ifindex, mtu, full
        for other, held in self._links.items():
            if other != link and held.addrs == addrs:
                raise LocalError("5-tuple belongs to another link")
        entry.addrs, entry.state = addrs, state

    def set_link_rx(self, link: int, slot: int, key: SipKey) -> None:
        rx = self._links.setdefault(link, LinkEntry()).rx[slot]
        if rx.key != key:
            rx.key, rx.window = key, ReplayWindow(c.LINK_WIN_WORDS)

    def clear_link_rx(self, link: int, slot: int) -> None:
        if link in self._links:
            self._links[link].rx[slot] = Rx()

    def set_link_tx(self, link: int, slot: int, key: SipKey) -> None:
        entry = self._links.setdefault(link, LinkEntry())
        if entry.tx[slot].key != key:
            entry.tx[slot] = Tx(key)

    def select_link_tx(self, link: int, slot: int) -> None:
        self._links[link].tx_slot = slot

    def remove_link(self, link: int) -> None:
        self._links.pop(link, None)

    def link_stats(self, link: int) -> LinkStats:
        entry = self._links.get(link, LinkEntry())
        counters = (entry.tx[0].counter, entry.tx[1].counter)
        return LinkStats(
            entry.state, entry.rx_seen, entry.tx_seen, entry.rx_frames, entry.rx_hint, entry.tx_slot, counters
        )

    def link_addrs(self, link: int) -> Addrs | None:
        return self._links[link].addrs if link in self._links else None

    # ---- circuits ------------------------------------------------------------------------------------------------

    def put_circuit(self, label: int, circuit: Circuit) -> None:
        self._circuits[label] = replace(circuit)

    def remove_circuit(self, label: int) -> None:
        self._circuits.pop(label, None)
        self._circuit_seen.pop(label, None)

    def circuit(self, label: int) -> Circuit | None:
        return self._circuits.get(label)

    def circuit_seen(self, label: int) -> int:
        return self._circuit_seen.get(label, 0)

    # ---- streams -------------------------------------------------------------------------------------------------

    def put_stream(
        self, stream: int, *, peer: int, out_link: int, out_label: int, budget: int, rx_hp: bytes, tx_hp: bytes
    ) -> None:
        entry = self._streams.setdefault(stream, StreamEntry())
        entry.peer, entry.out_link, entry.out_label, entry.budget = peer, out_link, out_label, budget
        entry.rx_hp, entry.tx_hp, entry.state = rx_hp, tx_hp, c.STREAM_UP

    def set_stream_rx(self, stream: int, slot: int, key: bytes) -> None:
        rx = self._streams.setdefault(stream, StreamEntry()).rx[slot]
        if rx.key != key:
            rx.key, rx.window = bytes(key), ReplayWindow(c.STREAM_WIN_WORDS)

    def clear_stream_rx(self, stream: int, slot: int) -> None:
        if stream in self._streams:
            self._streams[stream].rx[slot] = Rx()

    def set_stream_tx(self, stream: int, slot: int, key: bytes) -> None:
        entry = self._streams.setdefault(stream, StreamEntry())
        if entry.tx[slot].key != key:
            entry.tx[slot] = Tx(bytes(key))

    def select_stream_tx(self, stream: int, slot: int) -> None:
        self._streams[stream].tx_slot = slot

    def remove_stream(self, stream: int) -> None:
        self._streams.pop(stream, None)

    def stream_stats(self, stream: int) -> StreamStats:
        entry = self._streams.get(stream, StreamEntry())
        return StreamStats(
            entry.state,
            entry.rx_seen,
            entry.tx_seen,
            entry.rx_frames,
            entry.tx_slot,
            (entry.tx[0].counter, entry.tx[1].counter),
            (entry.rx[0].used, entry.rx[1].used),
        )

    # ---- routes, knock keys, used indices --------------------------------------------------------------------------

    def put_route(self, network: IpNetwork, *, peer: int, stream: int) -> None:
        self._routes[network] = (peer, stream)

    def remove_route(self, network: IpNetwork) -> None:
        self._routes.pop(network, None)

    def routes(self) -> dict[IpNetwork, tuple[int, int]]:
        return dict(self._routes)

    def put_network(self, scope: int, network: IpNetwork, *, peer: int, stream: int) -> None:
        self._networks[scope, network] = (peer, stream)

    def remove_network(self, scope: int, network: IpNetwork) -> None:
        self._networks.pop((scope, network), None)

    def networks(self) -> dict[tuple[int, IpNetwork], tuple[int, int]]:
        return dict(self._networks)

    def set_knock(self, index: int, key: KnockKey | None) -> None:
        self._knock[index] = key

    def used_links(self) -> list[int]:
        return sorted(i for i, link in self._links.items() if link.state != c.LINK_UNSET)

    def used_labels(self) -> list[int]:
        return sorted(self._circuits)

    def used_streams(self) -> list[int]:
        return sorted(i for i, stream in self._streams.items() if stream.state != c.STREAM_UNSET)

    # ---- keyd's own frames, states, counters -----------------------------------------------------------------------

    def seal(self, link: int, label: int, budget: int, body: bytes) -> bytes:
        return self._seal(link, label, budget, body)

    def set_redirect(self, on: bool) -> None:
        self.redirect = on

    def _seal(self, link: int, label: int, budget: int, body: bytes) -> bytes:
        entry = self._links[link]
        tx = entry.tx[entry.tx_slot]
        if not isinstance(tx.key, SipKey):
            raise LocalError("link has no send key")
        if tx.counter >= c.COUNTER_LIMIT:
            raise SealRefusedError(f"link {link}")
        counter, tx.counter = tx.counter, tx.counter + 1
        entry.tx_seen = self._tick()
        return seal_frame(tx.key.mac, tx.key.enc, label, budget, counter, body)

    def save_state(self, kind: int, index: int, data: bytes) -> None:
        if len(data) > c.STATE_LEN:
            raise LocalError("state is too long")
        self._states[kind, index] = data

    def load_states(self) -> dict[tuple[int, int], bytes]:
        return dict(self._states)

    def drop_state(self, kind: int, index: int) -> None:
        self._states.pop((kind, index), None)

    def reasons(self) -> dict[str, int]:
        return dict(self._reasons)


def _longest(table: dict[IpNetwork, tuple[int, int]], address: IpAddress) -> tuple[int, int] | None:
    found = [network for network in table if address in network]
    return table[max(found, key=lambda network: network.prefixlen)] if found else None


def _address(packet: bytes, *, source: bool) -> IpAddress | None:
    """Source or destination of an inner IP packet; None if it is too short or not IP."""
    version = packet[0] >> 4 if packet else 0
    at, size = {4: (12, 4), 6: (8, 16)}.get(version, (0, 0))
    start = at if source else at + size
    raw = packet[start : start + size]
    return ip_address(raw) if size and len(raw) == size else None
