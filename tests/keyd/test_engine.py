# SPDX-License-Identifier: Apache-2.0
"""Engines joined in memory: establishing, both ends at once, idling, rekeying, healing. `net.py` has the drawings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.keyd.net import FAST, Net, Wire, diamond, line3, pair
from veilnet.contract import PEER_SELF
from veilnet.keyd.state import Link as LinkState
from veilnet.protocol.errors import LocalError
from veilnet.protocol.messages import Extend


def up(net: Net, src: str, dst: str, seconds: float = 30.0) -> None:
    """One packet from src to dst, delivered."""
    before = len(net.received(dst))
    net.send(src, dst, 0)
    assert net.run(seconds, lambda: len(net.received(dst)) > before), net.nodes[src].counters


@pytest.mark.parametrize("topology", [pair, line3])
def test_first_packet_opens_a_stream_and_is_delivered_once(topology: object) -> None:
    net: Net = topology()  # type: ignore[operator]
    for number in range(5):
        net.send("a", "b", number)
    assert net.run(5, lambda: len(net.received("b")) == 5)
    assert net.received("b") == [0, 1, 2, 3, 4]
    net.send("b", "a", 9)
    assert net.run(1, lambda: net.received("a") == [9])
    assert len(net.nodes["b"].engine.streams.by_index) == 1, "the way back uses the same stream"


def test_relay_knows_only_its_neighbours() -> None:
    net = line3()
    up(net, "a", "b")
    legs = net.nodes["g2"].engine.snapshot()["legs"]
    assert [(leg["previous"], leg["next"]) for leg in legs] == [("g1", "g3")]
    assert net.nodes["g2"].engine.snapshot()["streams"] == []
    stream = net.nodes["a"].engine.snapshot()["streams"][0]
    assert stream["path"] == ["g1", "g2", "g3", "b"] and stream["up"]
    assert 64 <= net.nodes["a"].plane._streams[1].budget <= 255


def test_snapshot_holds_no_secret() -> None:
    net = pair()
    up(net, "a", "b")
    text = str(net.nodes["a"].engine.snapshot())
    session = net.nodes["a"].engine.streams.by_index[1].session
    keys = net.nodes["a"].keys
    secrets = [bytes(session._ck), session.tx_hp, keys.x25519, keys.mlkem768, keys.knock_seed]
    assert not any(secret.hex() in text or repr(secret)[2:-1] in text for secret in secrets)


@pytest.mark.parametrize("seed", range(4))
def test_pair_over_a_wire_that_loses_30_percent(seed: int) -> None:
    net = pair(seed=seed, wire=Wire(loss=0.3))
    net.send("a", "b", 0)
    assert net.run(60, lambda: bool(net.nodes["a"].engine.streams.by_index)), net.nodes["a"].counters
    assert net.run(60, lambda: any(s.ready for s in net.nodes["a"].engine.streams.by_index.values()))
    sent = net.flow("a", "b", count=400, every=0.02, first=1)
    net.run(15)
    arrived = net.received("b")
    assert len(arrived) == len(set(arrived)), "no packet twice"
    assert 0.6 < len([n for n in arrived if n in sent]) / len(sent) < 0.8
    assert net.nodes["a"].counters.get("stream_dead", 0) == 0


@pytest.mark.parametrize("seed", range(3))
def test_line_over_wires_that_lose_5_percent(seed: int) -> None:
    net = line3(seed=seed, wire=Wire(loss=0.05, duplicate=0.05, jitter=0.004))
    net.send("a", "b", 7)
    assert net.run(60, lambda: any(s.ready for s in net.nodes["a"].engine.streams.by_index.values()))


@pytest.mark.parametrize("topology", [pair, line3])
@pytest.mark.parametrize("seed", range(3))
def test_duplicates_and_reordering_lose_and_double_nothing(topology: object, seed: int) -> None:
    net: Net = topology(seed=seed, wire=Wire(duplicate=0.5, jitter=0.02))  # type: ignore[operator]
    net.send("a", "b", 0)
    assert net.run(30, lambda: bool(net.received("b")))
    net.flow("a", "b", count=300, every=0.003, first=1)
    net.flow("b", "a", count=300, every=0.003, first=1)
    net.run(3)
    assert sorted(net.received("b")) == list(range(301))
    assert sorted(net.received("a")) == list(range(1, 301))


@pytest.mark.parametrize("topology", [pair, line3])
@pytest.mark.parametrize("seed", range(4))
def test_both_ends_start_at_once(topology: object, seed: int) -> None:
    settings = replace(FAST, supersede_grace=1.0)
    net: Net = topology(seed=seed, settings=settings, wire=Wire(jitter=0.001))  # type: ignore[operator]
    a = net.flow("a", "b", count=500, every=0.01)
    b = net.flow("b", "a", count=500, every=0.01)
    net.run(12)
    assert sorted(net.received("b")) == list(a)
    assert sorted(net.received("a")) == list(b)
    for name in ("a", "b"):
        assert len(net.nodes[name].engine.streams.by_index) == 1, "one of two streams is given up"
        assert len(net.nodes[name].engine.links.by_index) == 1, "one of two links is given up"


def test_simultaneous_open_of_links_serves_both() -> None:
    net = pair()
    a, b = net.nodes["a"], net.nodes["b"]
    got: list[str] = []
    a.engine.links.to(b.view.node_id, lambda link: got.append(f"a {link is not None}"))
    b.engine.links.to(a.view.node_id, lambda link: got.append(f"b {link is not None}"))
    net.act(a, a.engine.poll(net.now))
    net.act(b, b.engine.poll(net.now))
    net.run(1)
    assert sorted(got) == ["a True", "b True"]
    best = {node.engine.links.best(other.view.node_id).addrs.lport for node, other in ((a, b), (b, a))}  # type: ignore[union-attr]
    assert len(best) == 2 and 4242 in best, "both ends chose the two sides of one link"


def test_idle_stream_and_link_dissolve_and_come_back_on_demand() -> None:
    net = line3(settings=replace(FAST, stream_idle=5.0, link_idle=8.0))
    up(net, "a", "b")
    net.run(12)
    for node in net.nodes.values():
        assert not node.engine.streams.by_index and not node.engine.legs.by_label, node.name
        assert not node.plane.used_streams() and not node.plane.used_labels(), node.name
    net.run(12)
    assert all(not node.plane.used_links() for node in net.nodes.values())
    up(net, "a", "b")
    assert len(net.nodes["a"].engine.streams.by_index) == 1


def test_stream_in_use_does_not_dissolve() -> None:
    net = pair(settings=replace(FAST, stream_idle=2.0))
    up(net, "a", "b")
    net.flow("a", "b", count=20, every=1.0, first=1)
    net.run(21)
    assert net.received("b") == list(range(21))
    assert net.nodes["a"].counters.get("circuit_idle", 0) == 0
    assert net.nodes["a"].engine.streams.by_index[1].since < net.now - 20


@pytest.mark.parametrize("topology", [pair, line3])
@pytest.mark.parametrize("wire", [Wire(), Wire(jitter=0.01, duplicate=0.2)])
def test_rekey_every_2_seconds_loses_nothing(topology: object, wire: Wire) -> None:
    net: Net = topology(settings=replace(FAST, rekey_interval=2.0), wire=wire)  # type: ignore[operator]
    up(net, "a", "b")
    net.flow("a", "b", count=4000, every=0.005, first=1)
    net.flow("b", "a", count=4000, every=0.005, first=1)
    net.run(21)
    assert sorted(net.received("b")) == list(range(4001))
    assert sorted(net.received("a")) == list(range(1, 4001))
    for name in ("a", "b"):
        engine = net.nodes[name].engine
        (stream,) = engine.streams.by_index.values()
        assert stream.session.epoch >= 5
        assert all(link.session is not None and link.session.epoch >= 5 for link in engine.links.by_index.values())


def test_new_rekey_interval_holds_for_sessions_that_are_up() -> None:
    net = pair()
    up(net, "a", "b")
    changed = replace(net.directory, version=2, settings={"rekey_interval": 2})
    for node in net.nodes.values():
        net.act(node, node.engine.set_directory(changed, net.now))
    net.run(10)
    for name in ("a", "b"):
        engine = net.nodes[name].engine
        sessions = [stream.session for stream in engine.streams.by_index.values()]
        sessions += [link.session for link in engine.links.by_index.values() if link.session is not None]
        assert [session is not None and session.epoch >= 3 for session in sessions] == [True, True]


def test_rekey_goes_on_over_a_lossy_wire() -> None:
    net = pair(seed=3, settings=replace(FAST, rekey_interval=2.0), wire=Wire(loss=0.2))
    net.send("a", "b", 0)
    assert net.run(60, lambda: any(s.ready for s in net.nodes["a"].engine.streams.by_index.values()))
    net.flow("a", "b", count=2000, every=0.01, first=1)
    net.run(21)
    share = len(set(net.received("b"))) / 2000
    assert 0.74 < share < 0.86, "nothing is lost but what the wire loses"
    assert next(iter(net.nodes["a"].engine.streams.by_index.values())).session.epoch >= 4


def test_rekey_by_frame_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veilnet.keyd.rekey.FRAMES_LIMIT", 200)
    net = pair()
    up(net, "a", "b")
    net.flow("a", "b", count=1000, every=0.005, first=1)
    net.run(6)
    assert net.received("b") == list(range(1001))
    assert net.nodes["a"].engine.streams.by_index[1].session.epoch >= 2


def test_dead_guardian_is_gone_around() -> None:
    net = diamond(settings=replace(FAST, ping_interval=1.0))
    up(net, "a", "b")
    used = net.nodes["a"].engine.snapshot()["streams"][0]["path"]
    dead = next(name for name in ("g2", "g3") if name in used)
    net.nodes[dead].down = True
    net.run(8)
    up(net, "a", "b")
    path = net.nodes["a"].engine.snapshot()["streams"][0]["path"]
    assert dead not in path and len(path) == 4


def test_peer_that_lost_everything_is_reached_again() -> None:
    net = line3(settings=replace(FAST, ping_interval=1.0))
    up(net, "a", "b")
    for name in ("g2", "b"):
        node = net.nodes[name]
        node.plane.__init__(node.plane.knock_port)  # type: ignore[misc]
        node.boot(net)
    net.run(10)
    up(net, "a", "b")
    up(net, "b", "a")


def test_dead_link_tears_its_circuits_down_on_both_sides() -> None:
    net = line3(settings=replace(FAST, ping_interval=1.0))
    up(net, "a", "b")
    net.nodes["g2"].down = True
    net.run(6)
    for name in ("a", "g1", "g3", "b"):
        assert not net.nodes[name].plane.used_labels(), name
        assert not net.nodes[name].plane.used_streams(), name
    assert net.nodes["a"].plane.routes().values() and not any(s for _, s in net.nodes["a"].plane.routes().values())


def test_unreachable_peer_clears_the_queue_with_a_count() -> None:
    net = pair(settings=replace(FAST, build_timeout=2.0, build_tries=2))
    net.nodes["b"].down = True
    for number in range(70):
        net.send("a", "b", number)
    net.run(10)
    counters = net.nodes["a"].counters
    assert counters["packet_queue_full"] == 6
    assert counters["packet_no_stream"] == 64
    assert counters["stream_build_failed"] == 1
    net.nodes["b"].down = False
    net.run(10)
    up(net, "a", "b")


def test_removed_node_loses_its_stream_at_once() -> None:
    net = pair()
    up(net, "a", "b")
    a, b = net.nodes["a"], net.nodes["b"]
    nodes = {node_id: view for node_id, view in net.directory.nodes.items() if node_id != b.view.node_id}
    net.act(a, a.engine.set_directory(replace(net.directory, version=2, nodes=nodes), net.now))
    assert not a.plane.used_streams() and not a.plane.used_links()
    assert {target for target, _ in a.plane.routes().values()} == {PEER_SELF}
    net.run(1)
    up_before = len(b.delivered)
    net.send("b", "a", 5)
    net.run(60)
    assert len(b.delivered) == up_before and net.received("a") == []
    assert a.counters["remote_peer"] > 0


@pytest.mark.parametrize("target", ["self", "previous", "unknown", "conflux side"])
def test_guardian_refuses(target: str) -> None:
    """g1 is asked to extend to itself, back to where it came from, to nobody; b, no Guardian, is asked to extend."""
    net = line3()
    up(net, "a", "b")
    a, g1, b = net.nodes["a"], net.nodes["g1"], net.nodes["b"]
    node = {"self": g1.view.node_id, "previous": a.view.node_id, "unknown": bytes(16), "conflux side": g1.view.node_id}
    answers: list[object] = []
    asker, asked = (net.nodes["g3"], b) if target == "conflux side" else (a, g1)
    link = asker.engine.links.best(asked.view.node_id)
    assert link is not None
    label = asker.engine.core.take_label()
    from veilnet.protocol.messages import Create, Created, Refused  # noqa: PLC0415

    requests = asker.engine._requests
    requests.start(lambda r: asker.engine.links.send(link, Create(r, label)), answers.append, lambda: None)
    net.act(asker, asker.engine.poll(net.now))
    assert net.run(1, lambda: bool(answers))
    created = answers.pop()
    assert isinstance(created, Created)
    extend = lambda r: asker.engine.links.send(link, Extend(r, created.label, node[target]))  # noqa: E731
    requests.start(extend, answers.append, lambda: None)
    net.act(asker, asker.engine.poll(net.now))
    assert net.run(1, lambda: bool(answers))
    assert isinstance(answers[0], Refused)
    assert asked.counters["extend_refused"] == 1


def test_too_many_circuits_on_a_link_are_refused() -> None:
    net = line3(settings=replace(FAST, circuits_per_link=0, build_tries=1))
    net.send("a", "b", 1)
    net.run(3)
    assert net.nodes["g1"].counters["create_refused"] >= 1
    assert net.nodes["a"].counters["circuit_refused"] >= 1
    assert net.received("b") == []


def test_forgotten_leg_is_collected() -> None:
    net = line3(settings=replace(FAST, leg_idle=20.0))
    up(net, "a", "b")
    a = net.nodes["a"]
    (circuit,) = a.engine.circuits.by_label.values()
    a.engine.circuits.fail(circuit, "test", None, destroy=False)
    net.run(40)
    assert all(not node.plane.used_labels() for node in net.nodes.values())


def test_ping_builds_a_stream_and_answers() -> None:
    net = line3()
    a = net.nodes["a"]
    results: list[tuple[bool, float]] = []
    net.act(a, a.engine.ping("b", net.now, lambda ok, seconds: results.append((ok, seconds))))
    assert net.run(5, lambda: bool(results))
    assert results[0][0]
    net.act(a, a.engine.ping("b", net.now, lambda ok, seconds: results.append((ok, seconds))))
    assert net.run(5, lambda: len(results) == 2)
    assert results[1][0] and results[1][1] == pytest.approx(0.016, abs=1e-3)
    with pytest.raises(LocalError):
        a.engine.ping("nobody", net.now, lambda ok, seconds: None)


def test_knock_keys_follow_the_clock() -> None:
    """After 10 minutes, and after the clock has stepped by an hour either way on both ends, a handshake succeeds."""
    net = pair(settings=replace(FAST, stream_idle=1.0, link_idle=1.0))
    for step in (600.0, 3600.0, -1800.0):
        net.run(30)
        for node in net.nodes.values():
            net.act(node, node.engine.set_clock(net.now, node.engine.core.unix + step))
        net.run(5)
        assert not net.nodes["a"].plane.used_links()
        up(net, "a", "b")
    net.run(400)
    up(net, "a", "b")


def test_clocks_80_seconds_apart_still_meet() -> None:
    net = pair()
    a = net.nodes["a"]
    net.act(a, a.engine.set_clock(net.now, net.now + 80))
    up(net, "a", "b")


def test_link_state_table_is_obeyed() -> None:
    net = pair()
    up(net, "a", "b")
    assert [link.state for link in net.nodes["a"].engine.links.by_index.values()] == [LinkState.UP]


def test_guardian_that_is_also_a_conflux() -> None:
    net = Net({"a": "c", "g": "gc", "b": "c"}, [("a", "g"), ("g", "b")])
    up(net, "a", "g")
    up(net, "a", "b")
    up(net, "g", "b")
    assert net.nodes["g"].engine.snapshot()["legs"]


def test_biscuit_keys_go_in_time_though_nobody_knocks() -> None:
    net = pair()
    up(net, "a", "b")
    responders = [net.nodes[name].engine.peers.responder for name in ("a", "b")]
    held = [key.key for responder in responders for key in responder._jar._keys]
    assert held and all(any(key) for key in held)
    net.run(700)
    assert not any(any(key) for key in held)
