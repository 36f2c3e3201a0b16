# SPDX-License-Identifier: Apache-2.0
"""What one member of the realm, or a few together, can take away from the others at a Guardian."""

from __future__ import annotations

from tests.keyd.net import Net, Node
from veilnet import contract as c
from veilnet.keyd.legs import LEGS_MAX
from veilnet.keyd.link import Link
from veilnet.keyd.links import LINKS_PER_PEER
from veilnet.keyd.state import Leg as LegState
from veilnet.keyd.state import Link as State
from veilnet.keyd.store import Kind
from veilnet.keyd.streams import STREAMS_PER_PEER
from veilnet.protocol.messages import Create

MEMBERS = ("a", "b", "d", "e", "f")


def star() -> Net:
    """Five Confluxes around one Guardian."""
    return Net({"g": "g"} | dict.fromkeys(MEMBERS, "c"), [(name, "g") for name in MEMBERS])


def dial(net: Net, member: str) -> None:
    """One more link from a member to the Guardian, as one that keeps no rule would make it."""
    node, guardian = net.nodes[member], net.nodes["g"].view.node_id
    node.engine.links._dials.pop(guardian, None)
    assert node.engine.links._dial(guardian)
    net.act(node, node.engine._take_actions())
    net.run(0.05)


def links_of(guardian: Node, member: Node) -> list[Link]:
    held = guardian.engine.links.by_index.values()
    return [link for link in held if link.peer == member.keys.node_id and link.state is State.UP]


def test_one_member_gets_few_links_and_the_newest_works() -> None:
    net = star()
    guardian, member = net.nodes["g"], net.nodes["a"]
    for _ in range(30):
        dial(net, "a")
        assert len(links_of(guardian, member)) <= LINKS_PER_PEER
    newest = max(links_of(guardian, member), key=lambda link: link.since)
    assert newest.since > net.now - 0.06
    dial(net, "b")
    assert len(links_of(guardian, net.nodes["b"])) == 1


def test_many_links_are_no_way_around_the_limit_of_circuits() -> None:
    net = star()
    guardian = net.nodes["g"]
    for _ in range(3):
        dial(net, "a")
    links = links_of(guardian, net.nodes["a"])
    assert len(links) == 3
    limit = guardian.engine.core.settings.circuits_per_link
    for number in range(limit // 2 + 1):
        for link in links:
            guardian.engine.legs.on_create(link, Create(number + 1, number + 1))
    assert sum(len(link.labels) for link in links) == limit
    assert guardian.counters["create_refused"] == 3 * (limit // 2 + 1) - limit


def test_circuits_leave_room_for_the_records_of_links_and_streams() -> None:
    """The map of records holds STATES in all; a write into a full one fails."""
    net = star()
    guardian = net.nodes["g"]
    for name in MEMBERS:
        dial(net, name)
        (link,) = links_of(guardian, net.nodes[name])
        for number in range(1, guardian.engine.core.settings.circuits_per_link + 1):
            guardian.engine.legs.on_create(link, Create(number, number))
    records = guardian.plane.load_states()
    assert sum(kind == Kind.LEG for kind, _ in records) <= LEGS_MAX
    assert LEGS_MAX + c.LINKS + 3 * c.STREAMS <= c.STATES
    assert len(records) < c.STATES


def test_one_member_gets_few_streams_and_the_newest_works() -> None:
    net = star()
    member, victim = net.nodes["a"], net.nodes["b"]
    path = (net.nodes["g"].keys.node_id, victim.keys.node_id)
    for _ in range(20):
        member.engine.circuits.build(path)
        net.act(member, member.engine._take_actions())
        net.run(0.2)
        held = [s for s in victim.engine.streams.by_index.values() if s.peer == member.keys.node_id]
        assert 0 < len(held) <= STREAMS_PER_PEER
    assert victim.counters["stream_crowded"] == 20 - STREAMS_PER_PEER
    net.send("a", "b", 1)
    net.send("d", "b", 2)
    assert net.run(5, lambda: sorted(net.received("b")) == [1, 2])


def crowd() -> tuple[Net, dict[str, Link]]:
    """Member a takes all circuits of g that there are: half over its own link, half by way of Guardian h."""
    net = Net({"g": "g", "h": "g", "a": "c", "d": "c"}, [("a", "g"), ("a", "h"), ("h", "g"), ("d", "g")])
    guardian = net.nodes["g"]
    for name in "ahd":
        dial(net, name)
    links = {name: links_of(guardian, net.nodes[name])[0] for name in "ahd"}
    for number in range(1, LEGS_MAX // 2 + 1):
        for name in "ah":
            guardian.engine.legs.on_create(links[name], Create(number, number))
    assert len(guardian.engine.legs.by_label) == LEGS_MAX
    return net, links


def test_when_all_circuits_are_taken_who_has_most_gives_one() -> None:
    net, links = crowd()
    guardian = net.nodes["g"]
    legs = guardian.engine.legs
    kept = {links[name].peer: next(leg for leg in legs.by_label.values() if leg.link is links[name]) for name in "ah"}
    for leg in kept.values():
        leg.state = LegState.SPLICED
    for number in range(1, 101):
        legs.on_create(links["d"], Create(number, number))
    assert len(links["d"].labels) == 100
    assert len(legs.by_label) == LEGS_MAX
    assert guardian.counters["leg_crowded"] == 100
    assert {len(links[name].labels) for name in "ah"} == {LEGS_MAX // 2 - 50}
    assert all(legs.by_label[leg.label] is leg for leg in kept.values()), "those that lead nowhere went first"
    legs.on_create(links["a"], Create(5000, 5000))
    assert guardian.counters["create_refused"] == 1, "who has most gets no more"


def test_a_stream_comes_up_through_a_guardian_that_is_full() -> None:
    net, _ = crowd()
    net.send("d", "a", 1)
    assert net.run(10, lambda: net.received("a") == [1])
