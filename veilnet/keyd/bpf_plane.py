# SPDX-License-Identifier: Apache-2.0
"""`DataPlane` over the pinned BPF maps of one instance.

Fields are written in place while packets pass: what makes an entry valid is written last and cleared first. keyd needs
neither bcc nor a compiler: the sealing program is opened by its pin.
"""

from __future__ import annotations

import ctypes
import os
import struct
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

from veilnet import contract as c
from veilnet.keyd.dataplane import Addrs, Circuit, KnockKey, LinkStats, SealRefusedError, SipKey, StreamStats
from veilnet.loader import libbpf
from veilnet.loader.maps import Maps, quiesce, store, wipe
from veilnet.protocol.networks import IpNetwork


def _way(addrs: c.Addrs) -> c.LinkWay | None:
    """Look-up key of an IPv4 5-tuple; None where there is none, or it is IPv6's."""
    if addrs.family != 4:
        return None
    way = c.LinkWay(rport=addrs.rport, lport=addrs.lport)
    way.remote, way.local = (struct.unpack(">I", bytes(a)[:4])[0] for a in (addrs.remote, addrs.local))
    return way


def _set_pair(entry: c.Circuit | c.Stream, out_link: int, out_label: int) -> None:
    """Write both in one store, as BPF reads them: no frame goes to the new link under the old label."""
    offset = type(entry).out_link.offset  # type: ignore[attr-defined]
    ctypes.c_uint64.from_buffer(entry, offset).value = out_label << 32 | out_link


def _packed(addrs: Addrs) -> c.Addrs:
    raw = c.Addrs(rport=addrs.rport, lport=addrs.lport, family=addrs.remote.version)
    store(raw.remote, addrs.remote.packed.ljust(16, b"\0"))
    store(raw.local, addrs.local.packed.ljust(16, b"\0"))
    return raw


class BpfPlane:
    """See `veilnet.keyd.dataplane.DataPlane`, which this implements. Raises BpfError where the kernel refuses."""

    def __init__(self, pin_dir: Path) -> None:
        self.maps = Maps(pin_dir)
        self._ctl_pin = pin_dir / "prog_veil_ctl"
        self._ctl = -1

    def close(self) -> None:
        self.maps.close()
        if self._ctl >= 0:
            os.close(self._ctl)
            self._ctl = -1

    def _at(self, kind: str, index: int) -> Any:
        if index == 0:
            raise IndexError(f"{kind} 0 means none")
        return getattr(self.maps, kind)[index]

    # ---- links -----------------------------------------------------------------------------------------------

    def put_link(
        self, link: int, addrs: Addrs, *, state: int, ifindex: int, mtu: int, full: bytes | None = None
    ) -> None:
        if not isinstance(addrs.remote, IPv4Address) or not isinstance(addrs.local, IPv4Address):
            raise ValueError("links run over IPv4")
        entry, fresh = self._at("links", link), _packed(addrs)
        if bytes(entry.addrs) != bytes(fresh):
            self._forget(entry)
            entry.state = c.LINK_UNSET
            entry.l2.stamp = 0
            ctypes.memmove(ctypes.addressof(entry.addrs), bytes(fresh), ctypes.sizeof(fresh))
        entry.ifindex, entry.mtu = ifindex, mtu
        store(entry.full, full or bytes(16))
        entry.state = state
        way = _way(fresh)
        if way is not None:
            self.maps.index().insert(way, link)

    def _forget(self, entry: c.Link) -> None:
        way = _way(entry.addrs)
        if way is not None:
            self.maps.index().remove(way)

    def set_link_rx(self, link: int, slot: int, key: SipKey) -> None:
        entry = self._at("links", link)
        rx = entry.rx[slot]
        if rx.valid and bytes(rx.key) == key.mac + key.enc:
            return  # the same key again: what its window has seen must not be forgotten
        if rx.valid:
            rx.valid = 0
            quiesce()  # a frame on its way in would mark its counter in the new key's window
        wipe(entry.win[slot])
        store(rx.key.mac, key.mac)
        store(rx.key.enc, key.enc)
        rx.valid = 1

    def clear_link_rx(self, link: int, slot: int) -> None:
        rx = self._at("links", link).rx[slot]
        rx.valid = 0
        wipe(rx)

    def set_link_tx(self, link: int, slot: int, key: SipKey) -> None:
        entry = self._at("links", link)
        tx = entry.tx[slot]
        if bytes(tx.key) == key.mac + key.enc:
            return  # the same key again: its counter must not go back
        if entry.tx_slot == slot and entry.state == c.LINK_UP:
            raise ValueError(f"link {link} sends with slot {slot}")
        store(tx.key.mac, key.mac)
        store(tx.key.enc, key.enc)
        tx.counter = 0

    def select_link_tx(self, link: int, slot: int) -> None:
        self._at("links", link).tx_slot = slot

    def remove_link(self, link: int) -> None:
        entry = self._at("links", link)
        self._forget(entry)
        entry.state = c.LINK_UNSET
        wipe(entry)

    def link_stats(self, link: int) -> LinkStats:
        e = self._at("links", link)
        counters = (e.tx[0].counter, e.tx[1].counter)
        return LinkStats(e.state, e.rx_seen, e.tx_seen, e.rx_frames, e.rx_hint, e.tx_slot, counters)

    def link_addrs(self, link: int) -> Addrs | None:
        raw = self._at("links", link).addrs
        if not raw.family:
            return None
        size = 4 if raw.family == 4 else 16
        remote, local = (ip_address(bytes(a)[:size]) for a in (raw.remote, raw.local))
        return Addrs(remote, raw.rport, local, raw.lport)

    # ---- circuits --------------------------------------------------------------------------------------------

    def put_circuit(self, label: int, circuit: Circuit) -> None:
        entry = self._at("circuits", label)
        if (entry.kind, entry.in_link) != (circuit.kind, circuit.in_link):
            entry.kind = c.CIRCUIT_UNSET
        entry.in_link, entry.stream, entry.flags = circuit.in_link, circuit.stream, circuit.flags
        _set_pair(entry, circuit.out_link, circuit.out_label)
        entry.kind = circuit.kind

    def remove_circuit(self, label: int) -> None:
        entry = self._at("circuits", label)
        entry.kind = c.CIRCUIT_UNSET
        wipe(entry)

    def circuit(self, label: int) -> Circuit | None:
        e = self._at("circuits", label)
        return Circuit(e.kind, e.in_link, e.out_link, e.out_label, e.stream, e.flags) if e.kind else None

    def circuit_seen(self, label: int) -> int:
        return int(self._at("circuits", label).seen)

    # ---- streams ---------------------------------------------------------------------------------------------

    def put_stream(
        self, stream: int, *, peer: int, out_link: int, out_label: int, budget: int, rx_hp: bytes, tx_hp: bytes
    ) -> None:
        entry = self._at("streams", stream)
        store(entry.rx_hp, rx_hp)
        store(entry.tx_hp, tx_hp)
        entry.peer, entry.budget, entry.lane, entry.lanes = peer, budget, 0, 1
        _set_pair(entry, out_link, out_label)
        entry.state = c.STREAM_UP

    def set_stream_rx(self, stream: int, slot: int, key: bytes) -> None:
        entry = self._at("streams", stream)
        if entry.rx[slot].valid and bytes(entry.rx[slot].key) == key:
            return  # the same key again: what its window has seen must not be forgotten
        if entry.rx[slot].valid:
            entry.rx[slot].valid = 0
            quiesce()  # as in set_link_rx
        wipe(entry.win[slot])
        store(entry.rx[slot].key, key)
        entry.rx[slot].valid = 1

    def clear_stream_rx(self, stream: int, slot: int) -> None:
        rx = self._at("streams", stream).rx[slot]
        rx.valid = 0
        wipe(rx)

    def set_stream_tx(self, stream: int, slot: int, key: bytes) -> None:
        entry = self._at("streams", stream)
        tx = entry.tx[slot]
        if tx.valid and bytes(tx.key) == key:
            return  # the same key again: its counter, the nonce, must not go back
        if tx.valid and entry.tx_slot == slot and entry.state == c.STREAM_UP:
            raise ValueError(f"stream {stream} sends with slot {slot}")
        tx.valid = 0
        store(tx.key, key)
        tx.counter = 0
        tx.valid = 1

    def select_stream_tx(self, stream: int, slot: int) -> None:
        self._at("streams", stream).tx_slot = slot

    def remove_stream(self, stream: int) -> None:
        entry = self._at("streams", stream)
        entry.state = c.STREAM_UNSET
        wipe(entry)

    def stream_stats(self, stream: int) -> StreamStats:
        e = self._at("streams", stream)
        used = (any(e.win[0]), any(e.win[1]))
        counters = (e.tx[0].counter, e.tx[1].counter)
        return StreamStats(e.state, e.rx_seen, e.tx_seen, e.rx_frames, e.tx_slot, counters, used)

    # ---- routes, networks, knock keys ------------------------------------------------------------------------

    def put_route(self, network: IpNetwork, *, peer: int, stream: int) -> None:
        self.maps.put_route(network, peer, stream)

    def remove_route(self, network: IpNetwork) -> None:
        self.maps.remove_route(network)

    def routes(self) -> dict[IpNetwork, tuple[int, int]]:
        return self.maps.routes()

    def put_network(self, scope: int, network: IpNetwork, *, peer: int, stream: int) -> None:
        self.maps.put_network(scope, network, peer, stream)

    def remove_network(self, scope: int, network: IpNetwork) -> None:
        self.maps.remove_network(scope, network)

    def networks(self) -> dict[tuple[int, IpNetwork], tuple[int, int]]:
        return self.maps.networks()

    def set_knock(self, index: int, key: KnockKey | None) -> None:
        entry = self.maps.config.knock[index]
        held = bytes(entry.mac) + bytes(entry.enc) + bytes(entry.full)
        if key is not None and entry.valid and held == key.mac + key.enc + key.full:
            return  # no gap for a key that stays
        entry.valid = 0
        if key is None:
            wipe(entry)
            return
        store(entry.mac, key.mac)
        store(entry.enc, key.enc)
        store(entry.full, key.full)
        entry.valid = 1

    # ---- what is in use --------------------------------------------------------------------------------------

    def used_links(self) -> list[int]:
        return self.maps.links.used("state")

    def used_labels(self) -> list[int]:
        return self.maps.circuits.used("kind")

    def used_streams(self) -> list[int]:
        return self.maps.streams.used("state")

    # ---- keyd's own frames -----------------------------------------------------------------------------------

    def _ctl_fd(self) -> int:
        if self._ctl < 0:
            self._ctl = libbpf.obj_get(self._ctl_pin)
        return self._ctl

    def probe(self, link: int, body: bytes) -> None:
        """Send a link control frame as data would go by XDP redirect: through the NIC, past the kernel's stack."""
        request = bytes(c.CtlReq(link=link, budget=255, flags=c.CTL_F_EMIT)) + body
        libbpf.test_run(self._ctl_fd(), request, live_frames=True)

    def set_redirect(self, on: bool) -> None:
        self.maps.config.emit = c.EMIT_REDIRECT if on else c.EMIT_TC

    def seal(self, link: int, label: int, budget: int, body: bytes) -> bytes:
        """See DataPlane. SealRefusedError when the link can't send."""
        request = bytes(c.CtlReq(link=link, label=label, budget=budget)) + body
        run = libbpf.test_run(self._ctl_fd(), request)
        if run.verdict != libbpf.XDP_TX or len(run.data) != len(request):
            raise SealRefusedError(f"link {link}, {len(body)} bytes")
        return run.data

    # ---- sessions, counters ----------------------------------------------------------------------------------

    def save_state(self, kind: int, index: int, data: bytes) -> None:
        self.maps.save_state(kind, index, data)

    def load_states(self) -> dict[tuple[int, int], bytes]:
        return self.maps.load_states()

    def drop_state(self, kind: int, index: int) -> None:
        self.maps.drop_state(kind, index)

    def reasons(self) -> dict[str, int]:
        return self.maps.reasons()
