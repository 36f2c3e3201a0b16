# SPDX-License-Identifier: Apache-2.0
"""Links: sessions with neighbours (docs/protocol.md sections 5 to 8)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from veilnet.contract import LINK_PENDING, LINK_UP
from veilnet.keyd.budget import Budget
from veilnet.keyd.core import Core, Nic, SendDatagram
from veilnet.keyd.dataplane import Addrs, SealRefusedError, SipKey
from veilnet.keyd.dial import Dial, Requests
from veilnet.keyd.endpoints import Endpoints
from veilnet.keyd.link import Handler, Link, LinkSlots, Waiter, origin
from veilnet.keyd.liveness import Liveness
from veilnet.keyd.peers import Peers
from veilnet.keyd.rekey import Rekeying
from veilnet.keyd.state import LINK, LinkEvent, step
from veilnet.keyd.state import Link as State
from veilnet.keyd.store import Kind, Record
from veilnet.protocol.errors import LocalError, Reason, RemoteError
from veilnet.protocol.handshake import Accepted, Answer, Mode, Repeated
from veilnet.protocol.knock import KnockSchedule, open_body, seal_knock
from veilnet.protocol.messages import Close, Message, Ping, Pong, Ready, Rekey, Rekeyed
from veilnet.protocol.session import Session

LINKS_PER_PEER = 8
"""More than simultaneous opens and restarts need; without a limit one member could take all links of a node."""

CONTROL_RATE, CONTROL_BURST = 256.0, 512
"""Link control of one peer, all its links together."""
ACCEPT_RATE, ACCEPT_BURST = 1.0, 32
"""Links that one peer makes with us. A node that restarts or changes its address needs one."""


class Links:
    """`handler` gets the messages that are about circuits; `down` is told of each link that is gone."""

    def __init__(self, core: Core, peers: Peers, requests: Requests) -> None:
        self._core, self._peers, self._requests = core, peers, requests
        self.by_index: dict[int, Link] = {}
        self._by_addrs: dict[Addrs, Link] = {}
        self._dials: dict[bytes, Link] = {}
        self._endpoints = Endpoints(core)
        self._control = Budget(CONTROL_RATE, CONTROL_BURST)
        self._accepts = Budget(ACCEPT_RATE, ACCEPT_BURST)
        self.handler: Handler = lambda link, message: None
        self.down: Callable[[Link], None] = lambda link: None

    # ---- outgoing ------------------------------------------------------------------------------------------------

    def best(self, peer: bytes) -> Link | None:
        """The link to use: of several, one that is not in doubt, started by the smaller node id, the newest. Both ends
        choose the same, so that after a simultaneous open one of the two goes out of use."""
        up = [link for link in self.of(peer) if link.state is State.UP]
        return min(up, key=self._rank) if up else None

    def of(self, peer: bytes) -> list[Link]:
        return [link for link in self.by_index.values() if link.peer == peer]

    def _rank(self, link: Link) -> tuple[bool, bytes, float]:
        doubtful = link.life is not None and link.life.suspected
        return doubtful, self._core.own.node_id if link.initiator else link.peer, -link.since

    def to(self, peer: bytes, done: Waiter) -> None:
        """Call `done` with a link to `peer` that is up, at once or later, or with None if there can't be one."""
        link = self.best(peer)
        if link is not None:
            done(link)
            return
        if peer not in self._dials and not self._dial(peer):
            done(None)
            return
        self._dials[peer].waiters.append(done)

    def renew(self, peer: bytes, done: Waiter) -> None:
        """As `to`, with a new link beside those that are up: what was asked on one of them got no answer."""
        if peer in self._dials or self._dial(peer):
            self._dials[peer].waiters.append(done)
        else:
            done(None)

    def _dial(self, peer: bytes) -> bool:
        core = self._core
        if not core.may_link(peer):
            core.count("dial_no_edge")
            return False
        addrs = self._endpoints.choose(peer, self._by_addrs)
        initiator = self._peers.initiator(Mode.LINK, peer)
        nic = core.underlay.nic_of(addrs.local) if addrs else None
        if addrs is None or nic is None or initiator is None:
            core.count("link_no_endpoint")
            return False
        link = Link(core.take_link(), peer, addrs, True, State.HELLO, nic.ifindex, nic.mtu, core.now)
        self.by_index[link.index] = self._by_addrs[addrs] = self._dials[peer] = link
        link.dial = Dial(
            core,
            initiator,
            lambda payload: self._send_knock(link, payload),
            lambda secret: self._confirmed(link, secret),
            lambda: self._dial_failed(link),
        )
        link.dial.start()
        return True

    def _send_knock(self, link: Link, payload: bytes) -> None:
        schedule = self._peers.schedule(link.peer)
        if schedule is None:
            return
        slot = KnockSchedule.slot_of(self._core.unix)
        if link.state is State.HELLO and slot != link.slot:
            link.slot, keys, plane = slot, schedule.reply_keys(slot), self._core.plane
            plane.clear_link_rx(link.index, 0)
            plane.set_link_rx(link.index, 0, SipKey(keys.mac, keys.enc))
            plane.put_link(
                link.index, link.addrs, state=LINK_PENDING, ifindex=link.ifindex, mtu=link.mtu, full=keys.full
            )
        self._send(link.addrs, seal_knock(schedule.knock_keys(slot), payload, self._core.rng))

    def _confirmed(self, link: Link, secret: bytes) -> None:
        link.state = step(LINK, link.state, LinkEvent.REPLIED)
        # the receive slot changes its meaning, so nothing may verify under it meanwhile
        self._core.plane.clear_link_rx(link.index, 0)
        self._install(link, secret)

    def _dial_failed(self, link: Link) -> None:
        self._endpoints.failed(link.peer)
        self.drop(link, "link_timeout")

    # ---- both sides ----------------------------------------------------------------------------------------------

    def _install(self, link: Link, secret: bytes) -> None:
        core = self._core
        link.session = Session(self._peers.provider, core.rng, secret, Mode.LINK, link.initiator)
        keys = link.session.keys()
        core.plane.set_link_rx(link.index, 0, SipKey(keys.rx.mac, keys.rx.enc))
        core.plane.set_link_tx(link.index, 0, SipKey(keys.tx.mac, keys.tx.enc))
        core.plane.put_link(link.index, link.addrs, state=LINK_UP, ifindex=link.ifindex, mtu=link.mtu)
        core.plane.select_link_tx(link.index, 0)

    def _went_up(self, link: Link, restored: dict[str, Any] | None = None) -> None:
        """Start what a link that is up does by itself, and serve those who wait for one."""
        session = link.session
        if session is None:
            raise LocalError("link without a session went up")
        core = self._core
        link.used = core.now
        link.life = Liveness(core, lambda: self._ping(link))
        link.rekeying = Rekeying(
            core,
            self._requests,
            ("link", link.index),
            session,
            peer=link.peer,
            slots=LinkSlots(core, link.index),
            send=lambda message: self.send(link, message),
            save=lambda: self.save(link),
        )
        if restored is not None:
            link.rekeying.restore(restored)
        self.save(link)
        core.event("link_up", peer=core.name(link.peer), link=link.index, initiator=link.initiator)
        waiters, link.waiters = link.waiters, []
        mine = self._dials.get(link.peer)
        if mine is link:
            del self._dials[link.peer]
        elif mine is not None and mine.state is State.HELLO:
            # simultaneous open: the peer is past its confirm and will not give up, ours is not needed
            waiters += mine.waiters
            mine.waiters = []
            self.drop(mine, "link_superseded")
        for waiter in waiters:
            waiter(link)

    def save(self, link: Link) -> None:
        if link.session is None or link.rekeying is None:
            return
        a = link.addrs
        fields = {
            "p": link.peer.hex(),
            "a": [str(a.remote), a.rport, str(a.local), a.lport],
            "n": [link.ifindex, link.mtu],
            **link.rekeying.fields(),
        }
        self._core.store.save(Kind.LINK, link.index, fields, link.session.to_bytes())

    def restore(self, records: dict[tuple[Kind, int], Record]) -> None:
        """Adopt what the data plane has up; remove everything else of it."""
        core = self._core
        for (kind, index), (fields, blob) in records.items():
            if kind is not Kind.LINK:
                continue
            remote, rport, local, lport = fields["a"]
            addrs = Addrs(ip_address(remote), rport, ip_address(local), lport)
            if core.plane.link_stats(index).state != LINK_UP or core.plane.link_addrs(index) != addrs:
                core.store.drop(kind, index)
                continue
            session = Session.from_bytes(self._peers.provider, core.rng, blob)
            peer, (ifindex, mtu) = bytes.fromhex(fields["p"]), fields["n"]
            link = Link(index, peer, addrs, session.initiator, State.UP, ifindex, mtu, core.now, session)
            core.links.add(index)
            self.by_index[index] = self._by_addrs[addrs] = link
            self._went_up(link, fields)
            core.count("link_adopted")
        for index in set(core.plane.used_links()) - core.links:
            core.plane.remove_link(index)

    def send(self, link: Link, message: Message) -> None:
        """Link control: label 0."""
        if link.session is None or link.state is State.DEAD:
            return
        bodies = link.session.seal(message, self._core.unix_ns)
        self.save(link)
        for body in bodies:
            self.send_body(link, 0, self._core.budget(), body)

    def send_body(self, link: Link, label: int, budget: int, body: bytes) -> None:
        if link.state is State.DEAD or self._core.plane.link_stats(link.index).state != LINK_UP:
            self._core.count("send_link_down")
            return
        try:
            self._send(link.addrs, self._core.plane.seal(link.index, label, budget, body))
        except SealRefusedError:
            self._core.count("send_refused")

    def _send(self, addrs: Addrs, payload: bytes) -> None:
        self._core.actions.append(SendDatagram(addrs, payload))

    def close(self, link: Link, reason: str) -> None:
        self.send(link, Close())
        self.drop(link, reason)

    def drop(self, link: Link, reason: str) -> None:
        """Forget a link. Its circuits go with it; those who wait for it are told."""
        if link.state is State.DEAD:
            return
        core, was = self._core, link.state
        link.state = step(LINK, link.state, LinkEvent.FAILED)
        core.store.drop(Kind.LINK, link.index)
        for part in (link.dial, link.rekeying):
            if part is not None:
                part.close()
        self.by_index.pop(link.index, None)
        if self._by_addrs.get(link.addrs) is link:
            del self._by_addrs[link.addrs]
        if self._dials.get(link.peer) is link:
            del self._dials[link.peer]
        core.plane.remove_link(link.index)
        core.links.discard(link.index)
        core.count(reason)
        core.event("link_down", peer=core.name(link.peer), link=link.index, reason=reason, was=was.value)
        self.down(link)
        if link.session is not None:
            link.session.wipe()
        for waiter in link.waiters:
            waiter(None)

    # ---- inputs --------------------------------------------------------------------------------------------------

    def _on_reply(self, link: Link, body: bytes) -> None:
        """A handshake datagram on a link that waits for replies."""
        schedule = self._peers.schedule(link.peer)
        if schedule is None or link.dial is None:
            raise RemoteError(Reason.STATE, "reply")
        link.dial.receive(open_body(schedule.reply_keys(link.slot), body))

    def on_knock(self, addrs: Addrs, slot: int, body: bytes) -> None:
        """A handshake datagram to our knock port, opened with the knock keys of time slot `slot`."""
        link, nic = self._by_addrs.get(addrs), self._core.underlay.nic_of(addrs.local)
        if nic is None:  # passing by on the way to another host
            raise RemoteError(Reason.STATE, "knock at an address that is not ours")
        payload = open_body(self._peers.own_schedule.knock_keys(slot), body)
        result = self._peers.responder.receive(payload, origin(addrs), self._core.unix, (Mode.LINK,))
        if isinstance(result, Answer):
            keys = self._peers.own_schedule.reply_keys(slot)
            self._send(addrs, seal_knock(keys, result.payload, self._core.rng))
        elif isinstance(result, Repeated):
            if link is not None and link.x_r == result.x_r and link.session is not None:
                self.send(link, Ready(0))
        else:
            self._accept(addrs, nic, result)

    def _accept(self, addrs: Addrs, nic: Nic, accepted: Accepted) -> None:
        # CF5
        core = self._core
        if accepted.peer_id is None:
            raise LocalError("anonymous link")
        if not self._accepts.take(accepted.peer_id, core.now):
            raise RemoteError(Reason.BUDGET, "links of one peer")
        before = self._by_addrs.get(addrs)
        if before is not None:
            self.drop(before, "link_replaced")
        held = self._suspect(accepted.peer_id)
        if len(held) >= LINKS_PER_PEER:
            self.close(max(held, key=self._rank), "link_crowded")
        link = Link(core.take_link(), accepted.peer_id, addrs, False, State.UP, nic.ifindex, nic.mtu, core.now)
        link.x_r = accepted.x_r
        self.by_index[link.index] = self._by_addrs[addrs] = link
        self._install(link, accepted.secret)
        # first, so that the initiator knows the link to be up before anything else comes over it
        self.send(link, Ready(0))
        self._went_up(link)

    def _suspect(self, peer: bytes) -> list[Link]:
        """The links with `peer` that are up, before one more is: they are asked whether the peer still has them."""
        held = [link for link in self.of(peer) if link.life is not None]
        for link in held:
            if link.life is not None:
                link.life.suspect()
        return held

    def on_control(self, index: int, body: bytes) -> None:
        """Body of a label 0 frame: control of the session, or a reply while there is none. RemoteError if neither."""
        link = self.by_index.get(index)
        if link is not None and link.state is State.HELLO:
            self._on_reply(link, body)
            return
        if link is None or link.session is None:
            raise RemoteError(Reason.STATE, "control on a link that is gone")
        if not self._control.take(link.peer, self._core.now):
            raise RemoteError(Reason.BUDGET, "control of one peer")
        try:
            message = link.session.open(body)
        finally:
            self.save(link)
        if link.state is State.CONFIRM:
            link.state = step(LINK, link.state, LinkEvent.READY)
            if link.dial is not None:
                link.dial.close()
            self._suspect(link.peer)
            self._went_up(link)
        if link.life is not None:
            link.life.heard()
        if link.rekeying is not None:
            link.rekeying.after_open()
        if message is not None:
            self._handle(link, message)

    def _handle(self, link: Link, message: Message) -> None:
        if isinstance(message, Ping):
            self.send(link, Pong(message.id))
        elif isinstance(message, Pong):
            self._requests.answer(message.id, message)
        elif isinstance(message, Rekey) and link.rekeying is not None:
            link.rekeying.on_rekey(message)
        elif isinstance(message, Rekeyed) and link.rekeying is not None:
            link.rekeying.on_rekeyed(message)
        elif isinstance(message, Close):
            self.drop(link, "link_closed_by_peer")
        elif not isinstance(message, Ready):
            self.handler(link, message)

    def _ping(self, link: Link) -> None:
        sent = self._core.now

        def answered(_: object) -> None:
            link.rtt_ms = (self._core.now - sent) * 1000

        self._requests.start(lambda request: self.send(link, Ping(request)), answered, lambda: None, tries=1)

    def tick(self) -> None:
        """Liveness, idleness, rekey by evidence of the data plane."""
        for link in list(self.by_index.values()):
            if link.state is State.UP and link.life is not None and link.rekeying is not None:
                self._tick(link, link.life, link.rekeying)

    def _tick(self, link: Link, life: Liveness, rekeying: Rekeying) -> None:
        core = self._core
        if self._core.node(link.peer) is None:
            self.close(link, "link_peer_gone")
            return
        if not core.may_link(link.peer):
            self.close(link, "link_edge_gone")
            return
        life.watch(core.plane.link_stats(link.index))
        if link.labels:
            link.used = core.now
        idle = core.now - link.used
        if not life.check():
            self.drop(link, "link_dead")
        elif rekeying.exhausted:
            self.drop(link, "link_exhausted")
        elif idle >= core.settings.link_idle:
            self.close(link, "link_idle")
        elif idle >= core.settings.supersede_grace and self.best(link.peer) is not link:
            self.close(link, "link_superseded")
        else:
            rekeying.poll()
