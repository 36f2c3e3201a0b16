# SPDX-License-Identifier: Apache-2.0
"""Plans: made of two states, deterministic, empty when carried out. The Master's side is a model of one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from veilnet.fleet.actual import Actual, ActualNode, ActualToken
from veilnet.fleet.model import Edge, Fleet, WantedNode, edge, whole_dns, whole_policy
from veilnet.fleet.plan import Action, Plan, Step, plan, plan_teardown

SETTINGS = {"min_guardians": 2, "rekey_seconds": 120, "idle_seconds": 300}
NO_NAMES = whole_dns({})
NEW = Actual("10.90.0.0/16", SETTINGS, whole_policy({}), NO_NAMES)
A, B = WantedNode("a", ("conflux",), ("dev",)), WantedNode("b", ("guardian",))
FLEET = Fleet("lab", nodes={"a": A, "b": B}, links=frozenset({("a", "b")}))


def enrolled(wanted: WantedNode, **changes: Any) -> ActualNode:
    return replace(ActualNode(f"nod_{wanted.name}", wanted.name, wanted.roles, wanted.taints or ()), **changes)


def actions(found: Plan) -> list[tuple[str, str]]:
    return [(step.action.value, step.subject) for step in found.steps]


def carried_out(step: Step, actual: Actual | None) -> Actual:
    """What the Master has after a step: the same meaning as the requests of `apply`, written a second time."""
    if step.action is Action.CREATE_REALM:
        return replace(NEW, ipv4_range=step.after.get("ipv4_range", NEW.ipv4_range),
                       settings={**SETTINGS, **step.after.get("settings", {})})  # fmt: skip
    assert actual is not None
    if step.action in {Action.CREATE_TOKEN, Action.REVOKE_TOKEN}:
        return replace(actual, tokens=_tokens(step, actual))
    if step.action in {Action.TAINTS, Action.LABELS, Action.REVOKE_NODE}:
        return _node_changed(step, actual)
    if step.action is Action.TOPOLOGY:
        return replace(actual, edges=frozenset(edge(*pair) for pair in step.after))
    return replace(actual, **{step.action.value: step.after})


def _tokens(step: Step, actual: Actual) -> tuple[ActualToken, ...]:
    if step.action is Action.REVOKE_TOKEN:
        return tuple(token for token in actual.tokens if token.id != step.target)
    body = step.after
    made = ActualToken(f"tok_{step.subject}", step.subject, tuple(body["roles"]), tuple(body["auto_taints"]))
    return (*actual.tokens, made)


def _node_changed(step: Step, actual: Actual) -> Actual:
    nodes = dict(actual.nodes)
    node = nodes.pop(step.subject)
    assert node.id == step.target
    if step.action is Action.REVOKE_NODE:
        edges = frozenset(pair for pair in actual.edges if step.subject not in pair)
        return replace(actual, nodes=nodes, edges=edges)
    changed = (
        replace(node, taints=tuple(step.after)) if step.action is Action.TAINTS else replace(node, labels=step.after)
    )
    return replace(actual, nodes={**nodes, node.name: changed})


def applied(found: Plan, actual: Actual | None) -> Actual | None:
    for step in found.steps:
        actual = carried_out(step, actual)
    return actual


def all_enrol(actual: Actual) -> Actual:
    nodes = {t.node: ActualNode(f"nod_{t.node}", t.node, t.roles, t.taints) for t in actual.tokens}
    return replace(actual, nodes={**nodes, **actual.nodes}, tokens=())


def test_from_nothing_nodes_enrol_in_between() -> None:
    fleet = replace(FLEET, settings={"min_guardians": 0})
    first = plan(fleet, None)
    assert actions(first) == [("create-realm", "lab"), ("create-token", "a"), ("create-token", "b")]
    assert first.waiting == ("a", "b")
    waiting = applied(first, None)
    assert waiting
    again = plan(fleet, waiting)
    assert (again.steps, again.waiting) == ((), ("a", "b"))
    second = plan(fleet, all_enrol(waiting))
    assert actions(second) == [("topology", "lab")]
    done = applied(second, all_enrol(waiting))
    assert plan(fleet, done) == Plan("lab")
    assert plan(fleet, applied(plan_teardown(fleet, done), done)).steps == first.steps[1:]


def test_what_the_file_does_not_mention_stays() -> None:
    stranger = ActualNode("nod_x", "x", ("conflux",), ("t",))
    found = Actual(
        "10.1.0.0/16", {**SETTINGS, "rekey_seconds": 9}, whole_policy({"default": "none"}), NO_NAMES,
        {"a": enrolled(A), "b": enrolled(B, taints=("kept",), labels={"k": "v"}), "x": stranger},
        edges=frozenset({("a", "b"), ("a", "x")}),
    )  # fmt: skip
    quiet = plan(FLEET, found)
    assert quiet.steps == () and "x" in quiet.notes[0]
    assert actions(plan(FLEET, found, prune=True)) == [("revoke-node", "x")]
    unlinked = plan(replace(FLEET, links=frozenset()), found)
    assert [step.after for step in unlinked.steps] == [[["a", "x"]]]
    assert plan(replace(FLEET, links=None), replace(found, edges=frozenset())).steps == ()


def test_names_are_those_of_the_file_and_no_others() -> None:
    held = replace(NEW, dns=whole_dns({"records": {"wiki": ["10.0.0.1"], "git": ["10.0.0.2"]}}))
    wanted = whole_dns({"suffix": "lab.test", "records": {"wiki": ["10.0.0.9"], "ci": ["FD00::0:1"]}})
    (step,) = plan(Fleet("lab", dns=wanted), held).steps
    assert (step.action, step.text) == (Action.DNS, "~ names: suffix None -> lab.test, + ci, - git, ~ wiki")
    assert step.after["records"]["ci"] == ["fd00::1"]
    assert plan(Fleet("lab"), held).steps == ()


def test_a_token_that_fits_no_more_is_replaced() -> None:
    old = ActualToken("tok_1", "a", ("conflux",), ("prod",))
    fits = ActualToken("tok_2", "b", ("guardian",), ("whatever",))
    assert actions(plan(FLEET, replace(NEW, tokens=(old, fits)))) == [("revoke-token", "a"), ("create-token", "a")]


def test_what_can_not_be_changed_blocks() -> None:
    fleet = replace(FLEET, ipv4_range="10.1.0.0/16")
    found = plan(fleet, replace(NEW, nodes={"a": enrolled(A, roles=("guardian",)), "b": enrolled(B)}))
    assert len(found.blocked) == 2
    assert "for life" in found.blocked[0] and "veilnet node revoke a" in found.blocked[1]


def test_expired_nodes_are_named() -> None:
    assert plan(FLEET, replace(NEW, nodes={"a": enrolled(A, expired=True), "b": enrolled(B)})).expired == ("a",)


def test_pending_nodes_are_named() -> None:
    assert plan(FLEET, replace(NEW, nodes={"a": enrolled(A, pending=True), "b": enrolled(B)})).pending == ("a",)


def test_policy_tests_wait_for_their_nodes_and_come_after_changed_taints() -> None:
    named: dict[str, Any] = {"a": "a", "b": "b", "allowed": False}
    other: dict[str, Any] = {"a": "b", "b": "b2", "allowed": False}
    free = {"a": {"taints": ["x"]}, "b": {"taints": ["x"]}, "allowed": True}
    fleet = replace(FLEET, policy=whole_policy({"tests": [named, other, free]}))
    tests = whole_policy({"tests": [named, other, free]})["tests"]
    nobody = plan(fleet, NEW)
    assert [step.after["tests"] for step in nobody.steps if step.action is Action.POLICY] == [[tests[2]]]
    tainted = replace(NEW, nodes={"a": enrolled(A, taints=()), "b": enrolled(B)}, edges=frozenset({("a", "b")}))
    found = plan(fleet, tainted)
    assert actions(found) == [("policy", "lab"), ("taints", "a"), ("policy", "lab")]
    assert [step.after["tests"] for step in found.steps if step.action is Action.POLICY] == [[tests[2]], tests[::2]]
    assert plan(fleet, applied(found, tainted)).steps == ()


def test_numbered_names_are_in_the_order_of_their_numbers() -> None:
    fleet = Fleet("lab", nodes={name: WantedNode(name, ("conflux",)) for name in ("n10", "n9", "n1")})
    assert plan(fleet, NEW).waiting == ("n1", "n9", "n10")


NAMES = st.sampled_from([f"n{i}" for i in range(6)])
TAINTS = st.lists(st.sampled_from(["dev", "eu", "us"]), unique=True).map(lambda words: tuple(sorted(words)))
LABELS = st.dictionaries(st.sampled_from(["rack", "room"]), st.sampled_from(["1", "2"]))
EDGES = st.frozensets(st.tuples(NAMES, NAMES).filter(lambda pair: pair[0] < pair[1]), max_size=8)
ROLES = {f"n{i}": ("guardian",) if i % 2 else ("conflux",) for i in range(6)}
NAMESETS = st.sampled_from(
    [NO_NAMES, whole_dns({"suffix": "lab.test"}), whole_dns({"records": {"wiki": ["10.0.0.1"]}}),
     whole_dns({"records": {"wiki": ["10.0.0.2", "fd00::1"], "git": ["10.0.0.3"]}})]
)  # fmt: skip
POLICIES = st.sampled_from([whole_policy({}), whole_policy({"default": "none"})])
SOME_SETTINGS = st.dictionaries(st.sampled_from(sorted(SETTINGS)), st.integers(0, 9))


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    nodes = {
        name: WantedNode(name, ROLES[name], draw(st.none() | TAINTS), draw(st.none() | LABELS))
        for name in draw(st.sets(NAMES))
    }
    links: frozenset[Edge] = draw(EDGES)
    inside = frozenset(pair for pair in links if nodes.keys() >= set(pair))
    wanted = draw(st.none() | st.just(inside))
    return Fleet(
        "lab", None, draw(SOME_SETTINGS), draw(st.none() | POLICIES), draw(st.none() | NAMESETS), nodes, wanted
    )


@st.composite
def actuals(draw: st.DrawFn) -> Actual:
    nodes = {
        name: ActualNode(f"nod_{name}", name, ROLES[name], draw(TAINTS), draw(LABELS)) for name in draw(st.sets(NAMES))
    }
    free = sorted(draw(st.sets(NAMES)) - nodes.keys())
    tokens = tuple(ActualToken(f"old_{name}", name, ROLES[name], draw(TAINTS)) for name in free)
    links: frozenset[Edge] = draw(EDGES)
    edges = frozenset(pair for pair in links if nodes.keys() >= set(pair))
    return Actual(
        "10.90.0.0/16", {**SETTINGS, **draw(SOME_SETTINGS)}, draw(POLICIES), draw(NAMESETS), nodes, tokens, edges
    )


@given(fleets(), st.none() | actuals(), st.booleans())
def test_a_plan_that_was_carried_out_leaves_nothing_and_so_after_enrolment(
    fleet: Fleet, actual: Actual | None, prune: bool
) -> None:
    first = plan(fleet, actual, prune=prune)
    assert plan(fleet, actual, prune=prune) == first
    done = applied(first, actual)
    assert done is not None
    assert plan(fleet, done, prune=prune).steps == ()
    joined = all_enrol(done)
    finished = applied(plan(fleet, joined, prune=prune), joined)
    assert plan(fleet, finished, prune=prune).steps == ()
    assert finished is not None
    if fleet.links is not None:
        assert {pair for pair in finished.edges if fleet.nodes.keys() >= set(pair)} == fleet.links
    gone = applied(plan_teardown(fleet, finished), finished)
    assert gone is not None and not gone.nodes.keys() & fleet.nodes.keys()
    assert plan_teardown(fleet, gone).steps == ()
