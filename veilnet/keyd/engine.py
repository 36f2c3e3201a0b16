# SPDX-License-Identifier: Apache-2.0
"""The engine: everything keyd decides, without sockets, clocks or randomness of its own.

Inputs are method calls with `now` (seconds, of one clock that never goes back); they return the actions that the shell
has to carry out, in order. `next_deadline` says when to call `poll` at the latest. The data plane is memory and is
written directly. What a peer does wrong is counted under `remote_<reason>`; LocalError is our caller's fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from veilnet.keyd.circuits import Circuits
from veilnet.keyd.core import (
    Action,
    Core,
    Event,
    ExhaustedError,
    Inject,
    NetworkChoice,
    Nic,
    NodeKeys,
    SendDatagram,
    Settings,
    Underlay,
)
from veilnet.keyd.create import Creator
from veilnet.keyd.dataplane import Addrs, DataPlane, KnockKey
from veilnet.keyd.dial import Requests
from veilnet.keyd.emit import EmitProber
from veilnet.keyd.legs import Legs
from veilnet.keyd.link import Link
from veilnet.keyd.links import Links
from veilnet.keyd.peers import Peers
from veilnet.keyd.reconcile import Reconciler
from veilnet.keyd.snapshot import snapshot
from veilnet.keyd.streams import Streams
from veilnet.protocol.crypto import CryptographyProvider, Provider, Rng
from veilnet.protocol.directory import Directory
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.knock import SLOT_SECONDS, KnockSchedule
from veilnet.protocol.messages import Create, Created, Destroy, Extend, Extended, Message, Refused

__all__ = ["Action", "Engine", "Event", "Inject", "Nic", "NodeKeys", "SendDatagram", "Settings", "Underlay"]

_UNOPENED: Final = {Reason.LENGTH, Reason.TAG, Reason.AUTH, Reason.FIELD, Reason.KIND, Reason.PADDING, Reason.SLOT}
"""Why a body from a circuit was refused before anything in it made sense."""


class Engine:
    """Create, then `set_directory` once before any other input: that also takes over what an earlier run has left."""

    def __init__(
        self,
        own: NodeKeys,
        plane: DataPlane,
        rng: Rng,
        underlay: Underlay,
        *,
        settings: Settings | None = None,
        provider: Provider | None = None,
        networks: NetworkChoice | None = None,
    ) -> None:
        self.core = Core(own, plane, rng, underlay, settings or Settings(), networks=networks)
        self.peers = Peers(self.core, provider or CryptographyProvider())
        requests = Requests(self.core)
        self._requests = requests
        self.links = Links(self.core, self.peers, requests)
        creator = Creator(self.core, requests, self.links)
        self.circuits = Circuits(self.core, self.peers, requests, self.links, creator)
        self.legs = Legs(self.core, self.peers, self.links, creator)
        self.streams = Streams(self.core, self.peers, requests, self.circuits, self.legs)
        self.emit = EmitProber(self.core, self.links, requests)
        self._reconciler = Reconciler(self.core, self.links, self.circuits, self.legs, self.streams)
        self._knock_slots: tuple[int, ...] = ()
        self._started = False
        self.data_frames = 0
        """Bodies from circuits that opened as neither control nor handshake: a stream's packets would be such."""
        self.links.handler = self._on_circuit_message
        self.links.down = self._on_link_down

    # ---- inputs --------------------------------------------------------------------------------------------------

    def set_clock(self, now: float, unix_time: float) -> list[Action]:
        """What unix time `now` is. Call before anything else, and after each step of the clock."""
        self.core.now = max(self.core.now, now)
        self.core.wall = unix_time - now
        self._update_knock()
        return self._take_actions()

    def set_directory(self, directory: Directory, now: float) -> list[Action]:
        """A verified snapshot. Nodes that are gone lose their routes, streams and links at once."""

        def take() -> None:
            core = self.core
            if self._started and directory.realm != core.directory.realm:
                raise LocalError("directory of another realm")
            core.directory = directory
            core.settings = core.base_settings.under(directory.settings)
            if not self._started:
                self._start()
            self._reconciler.run()
            self.links.tick()
            self.streams.tick()

        return self._input(now, take)

    def set_underlay(self, underlay: Underlay, now: float) -> list[Action]:
        """Addresses of this host have changed; links over addresses that are gone end."""

        def take() -> None:
            self.core.underlay = underlay
            for link in list(self.links.by_index.values()):
                if underlay.nic_of(link.addrs.local) is None:
                    self.links.drop(link, "link_address_gone")

        return self._input(now, take)

    def on_knock(self, addrs: Addrs, slot_index: int, body: bytes, now: float) -> list[Action]:
        """Handshake frame to our knock port; `slot_index` is the index of the knock key that verified."""

        def take() -> None:
            if slot_index >= len(self._knock_slots):
                raise RemoteError(Reason.SLOT, "knock")
            self.links.on_knock(addrs, self._knock_slots[slot_index], body)

        return self._input(now, take)

    def on_control(self, link: int, label: int, stream: int, body: bytes, now: float) -> list[Action]:
        """Authenticated frame for keyd; label 0 is the link's own control, or a reply on a link that waits for one.
        `stream` is what the data plane thinks."""

        def take() -> None:
            if label == 0:
                self.links.on_control(link, body)
                return
            try:
                on_circuit()
            except RemoteError as error:
                if error.reason in _UNOPENED:
                    self.data_frames += 1
                raise

        def on_circuit() -> None:
            if (circuit := self.circuits.by_label.get(label)) is not None and self._on(circuit.link, link):
                self.circuits.on_body(circuit, body)
            elif (leg := self.legs.by_label.get(label)) is not None and self._on(leg.link, link):
                self.legs.on_body(leg, body)
            else:
                raise RemoteError(Reason.STATE, "control on a label that is gone")

        return self._input(now, take)

    def on_no_stream(self, peer: int, packet: bytes, now: float) -> list[Action]:
        """An inner packet whose route leads to no stream yet; `peer` is the number in the route."""
        return self._input(now, lambda: self.streams.on_no_stream(peer, packet))

    def poll(self, now: float) -> list[Action]:
        """Let time pass."""
        return self._input(now, lambda: None)

    def ping(self, name: str, now: float, done: Callable[[bool, float], None]) -> list[Action]:
        """End-to-end round trip to a node by name. `done(answered, seconds)` is called by a later input, or at once."""
        node = self.core.directory.by_name(name)
        if node is None or node.node_id == self.core.own.node_id:
            raise LocalError(f"no other node named {name}")
        return self._input(
            now, lambda: self.streams.ping(node.node_id, lambda answered: done(answered, self.core.now - now))
        )

    def next_deadline(self) -> float | None:
        """When `poll` has something to do, on the clock of `now`."""
        return self.core.timers.next_deadline()

    def snapshot(self) -> dict[str, Any]:
        """State for `status --json`; no secrets."""
        return snapshot(
            self.core,
            links=self.links,
            circuits=self.circuits,
            legs=self.legs,
            streams=self.streams,
            redirects=self.emit.redirects,
            data_frames=self.data_frames,
        )

    # ---- inside --------------------------------------------------------------------------------------------------

    def _input(self, now: float, take: Callable[[], None]) -> list[Action]:
        self.core.now = max(self.core.now, now)
        self._guard(lambda: self.core.timers.run(self.core.now))
        self._guard(take)
        return self._take_actions()

    def _guard(self, take: Callable[[], None]) -> None:
        try:
            take()
        except RemoteError as error:
            self.core.count(f"remote_{error.reason.value}")
        except ExhaustedError:
            self.core.count("exhausted")

    def _take_actions(self) -> list[Action]:
        actions, self.core.actions = self.core.actions, []
        return actions

    @staticmethod
    def _on(held: Link | None, index: int) -> bool:
        return held is not None and held.index == index

    def _start(self) -> None:
        core = self.core
        self._started = True
        records = core.store.load()
        for part in (self.peers, self.links, self.circuits, self.legs, self.streams):
            part.restore(records)
        self._update_knock()
        self._every(("tick",), lambda: core.settings.tick, self._tick)
        self._every(("reconcile",), lambda: core.settings.reconcile, self._repair)

    def _every(self, key: tuple[str, ...], seconds: Callable[[], float], run: Callable[[], None]) -> None:
        def fire() -> None:
            self.core.timers.set(key, self.core.after(seconds()), fire)
            self._guard(run)

        self.core.timers.set(key, self.core.after(seconds()), fire)

    def _tick(self) -> None:
        self.links.tick()
        self.emit.tick()
        self.streams.tick()

    def _repair(self) -> None:
        self.legs.tick()
        self._reconciler.run()
        self.peers.responder.expire(self.core.unix)  # biscuit keys go in time though nobody knocks

    def _update_knock(self) -> None:
        """KN4: keys of the slot that holds now and of its nearest neighbour, each in its own place by parity, so that a
        slot that stays is not touched."""
        core = self.core
        now_slots = KnockSchedule.slots_at(core.unix)
        slots = tuple(sorted(now_slots, key=lambda slot: slot % 2))
        for index, slot in enumerate(slots):
            if index >= len(self._knock_slots) or self._knock_slots[index] != slot:
                keys = self.peers.own_schedule.knock_keys(slot)
                core.plane.set_knock(index, KnockKey(keys.mac, keys.enc, keys.full))
        self._knock_slots = slots
        half = SLOT_SECONDS / 2
        core.timers.set(("knock",), core.after(half - core.unix % half + 0.01), self._update_knock)

    def _on_circuit_message(self, link: Link, message: Message) -> None:
        if isinstance(message, Create):
            self.legs.on_create(link, message)
        elif isinstance(message, Extend):
            self.legs.on_extend(link, message)
        elif isinstance(message, Created | Extended | Refused):
            self._requests.answer(message.id, message)
        elif isinstance(message, Destroy):
            circuit = self.circuits.by_label.get(message.label)
            if circuit is not None and circuit.link is link:
                self.circuits.fail(circuit, "circuit_destroyed", None, destroy=False)
            elif not self.legs.on_destroy(link, message.label):
                self.core.count("destroy_unknown")

    def _on_link_down(self, link: Link) -> None:
        self.circuits.link_down(link)
        self.legs.link_down(link)
