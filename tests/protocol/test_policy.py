# SPDX-License-Identifier: Apache-2.0
"""The rule of docs/policy.md: tables, then the properties that it promises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilnet.protocol.envelope import MalformedDocument
from veilnet.protocol.policy import (
    OPEN,
    Policy,
    Rule,
    Subject,
    decide,
    may_talk,
    policy_json,
    profile,
    profiles_talk,
    reach,
    read_document,
    read_policy,
    run_tests,
)

TAINTS = ("dev", "eu", "us", "ops")
NAMES = ("n1", "n2", "n3")


def node(text: str = "", *, worn: str | None = None, name: str = "") -> Subject:
    granted = frozenset(text.split())
    return Subject(name, granted, granted if worn is None else granted & frozenset(worn.split()))


def rule(effect: str, between: str, and_: str, name: str = "r") -> dict[str, Any]:
    return {"name": name, "effect": effect, "between": between.split(), "and": and_.split()}


@pytest.mark.parametrize(
    ("a", "b", "allowed", "reason"),
    [
        (node(), node(), True, "neither has a taint"),
        (node("dev"), node(), False, "no rule allows it and they share no taint"),
        (node("dev"), node("dev"), True, "both wear taint dev"),
        (node("dev"), node("eu"), False, "no rule allows it and they share no taint"),
        (node("dev eu"), node("dev"), True, "both wear taint dev"),
        (node("dev eu"), node("dev us"), True, "both wear taint dev"),
        (node("dev eu", worn="eu"), node("dev us"), False, "no rule allows it and they share no taint"),
        (node("dev", worn=""), node(), False, "no rule allows it and they share no taint"),
        (node("dev", worn=""), node("eu", worn=""), False, "no rule allows it and they share no taint"),
    ],
)
def test_without_a_policy(a: Subject, b: Subject, allowed: bool, reason: str) -> None:
    decision = decide(OPEN, a, b)
    assert (decision.allowed, decision.reasons) == (allowed, (reason,))


@pytest.mark.parametrize(
    ("document", "a", "b", "allowed", "reason"),
    [
        ({"default": "none"}, node(), node(), False, "no rule allows it and the default is none"),
        ({"default": "none"}, node("dev"), node("dev"), False, "no rule allows it and the default is none"),
        ({"rules": [rule("deny", "*", "*")]}, node(), node(), False, "denied by rule r"),
        ({"rules": [rule("allow", "taint:ops", "*")]}, node("dev"), node("ops"), True, "allowed by rule r"),
        ({"rules": [rule("allow", "taint:ops", "*")]}, node("dev"), node("ops", worn=""), False,
         "no rule allows it and they share no taint"),
        ({"rules": [rule("deny", "taint:ops", "*")]}, node("dev"), node("ops dev", worn="dev"), False,
         "denied by rule r"),
        ({"rules": [rule("allow", "untainted", "taint:ops")]}, node(), node("ops"), True, "allowed by rule r"),
        ({"rules": [rule("allow", "untainted", "taint:ops")]}, node("dev", worn=""), node("ops"), False,
         "no rule allows it and they share no taint"),
        ({"rules": [rule("allow", "node:n1", "node:n2")]}, node("dev", name="n2"), node(name="n1"), True,
         "allowed by rule r"),
        ({"rules": [rule("deny", "taint:dev", "taint:dev")]}, node("dev"), node("dev"), False, "denied by rule r"),
        ({"groups": {"g": ["taint:dev", "node:n1"]}, "rules": [rule("allow", "group:g", "taint:eu")]},
         node("us", name="n1"), node("eu"), True, "allowed by rule r"),
    ],
)  # fmt: skip
def test_with_a_policy(document: Any, a: Subject, b: Subject, allowed: bool, reason: str) -> None:
    decision = decide(read_policy(document), a, b)
    assert (decision.allowed, decision.reasons) == (allowed, (reason,))


# ---- properties ----------------------------------------------------------------------------------------------------


@st.composite
def members(draw: st.DrawFn) -> Subject:
    granted = draw(st.frozensets(st.sampled_from(TAINTS)))
    worn = draw(st.frozensets(st.sampled_from(TAINTS)))
    return Subject(draw(st.sampled_from(("", *NAMES))), granted, granted & worn)


SELECTORS = ["*", "untainted", "group:g", *(f"taint:{t}" for t in TAINTS), *(f"node:{n}" for n in NAMES)]
FIELDS = ("default", "groups", "rules", "tests", "name", "effect", "between", "and", "a", "b", "allowed", "taints")
PLAIN = [text for text in SELECTORS if not text.startswith("group")]
sides = st.lists(st.sampled_from(SELECTORS), min_size=1, max_size=3)
rules = st.builds(
    lambda effect, one, other: {"effect": effect, "between": one, "and": other},
    st.sampled_from(["allow", "deny"]),
    sides,
    sides,
)
documents = st.builds(
    lambda default, group, found: {
        "default": default,
        "groups": {"g": group},
        "rules": [{"name": f"r{i}", **item} for i, item in enumerate(found)],
    },
    st.sampled_from(["taints", "none"]),
    st.lists(st.sampled_from(PLAIN), min_size=1, max_size=3),
    st.lists(rules, max_size=4),
)


@given(documents, members(), members())
def test_symmetric_total_and_always_explained(document: Any, a: Subject, b: Subject) -> None:
    policy = read_policy(document)
    one, other = decide(policy, a, b), decide(policy, b, a)
    assert one == other
    assert one.reasons


@given(documents, members(), members(), st.frozensets(st.sampled_from(TAINTS)))
def test_narrowing_never_widens(document: Any, a: Subject, b: Subject, kept: frozenset[str]) -> None:
    policy = read_policy(document)
    narrowed = Subject(a.name, a.taints, a.worn & kept)
    assert may_talk(policy, narrowed, b) <= may_talk(policy, a, b)


@given(documents, rules, members(), members())
def test_one_more_rule_goes_one_way(document: Any, extra: Any, a: Subject, b: Subject) -> None:
    before = may_talk(read_policy(document), a, b)
    after = may_talk(read_policy({**document, "rules": [*document["rules"], {"name": "x", **extra}]}), a, b)
    assert before <= after if extra["effect"] == "allow" else after <= before


@given(documents, members(), members())
def test_default_none_is_the_narrower(document: Any, a: Subject, b: Subject) -> None:
    none, taints = ({**document, "default": default} for default in ("none", "taints"))
    assert may_talk(read_policy(none), a, b) <= may_talk(read_policy(taints), a, b)


@given(documents, members(), members())
def test_reach_misses_nobody(document: Any, a: Subject, b: Subject) -> None:
    """The index may be asked for too many, never for too few."""
    policy = read_policy(document)
    if may_talk(policy, a, b):
        assert reach(policy, a).holds(b, b.worn)


@given(documents, members(), members())
def test_profiles_decide_the_same(document: Any, a: Subject, b: Subject) -> None:
    policy = read_policy(document)
    assert profiles_talk(policy, profile(policy, a), profile(policy, b)) == may_talk(policy, a, b)


@given(documents)
def test_what_is_signed_reads_back(document: Any) -> None:
    policy = read_policy(document)
    assert read_policy(policy_json(policy)) == policy


# ---- the document ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"default": "all"},
        {"more": 1},
        {"rules": {}},
        {"rules": [rule("permit", "*", "*")]},
        {"rules": [rule("allow", "", "*")]},
        {"rules": [rule("allow", "group:unknown", "*")]},
        {"rules": [rule("allow", "taint:", "*")]},
        {"rules": [rule("allow", "taint:a:b", "*")]},
        {"rules": [rule("allow", "node:UP", "*")]},
        {"rules": [rule("allow", "dev", "*")]},
        {"rules": [rule("allow", "*", "*"), rule("deny", "*", "*")]},
        {"rules": [{**rule("allow", "*", "*"), "more": 1}]},
        {"rules": [rule("allow", "*", "*", name=f"r{i}") for i in range(257)]},
        {"groups": {"g": ["group:g"]}},
        {"groups": {"g": ["group:h"], "h": ["*"]}},
        {"groups": {"G": ["*"]}},
        {"groups": {"g": []}},
        {"groups": []},
        {"tests": [{"a": 1, "b": {}, "allowed": True}]},
        {"tests": [{"a": {}, "b": {}, "allowed": 1}]},
        {"tests": [{"a": {"taints": ["A"]}, "b": {}, "allowed": True}]},
    ],
)
def test_documents_that_are_refused(document: Any) -> None:
    with pytest.raises(MalformedDocument):
        read_document(document)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.sampled_from([*SELECTORS, "default", "allow", "x"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(FIELDS),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_nonsense_raises_nothing_else(value: Any) -> None:
    try:
        policy, tests = read_document(value)
    except MalformedDocument:
        return
    run_tests(policy, tests, lambda name: None)


def test_tests_in_the_document() -> None:
    document = {
        "rules": [rule("deny", "taint:guest", "taint:guest")],
        "tests": [
            {"a": {"taints": ["guest"]}, "b": {"taints": ["guest"]}, "allowed": False},
            {"a": {"taints": ["dev"]}, "b": "c1", "allowed": True},
            {"a": {"taints": ["dev"], "worn": []}, "b": "c1", "allowed": True},
            {"a": "gone", "b": "c1", "allowed": True},
        ],
    }
    policy, tests = read_document(document)
    failures = run_tests(policy, tests, {"c1": node("dev", name="c1")}.get)
    assert [(failure.index, failure.detail.split(",")[0]) for failure in failures] == [
        (2, "expected to be allowed"),
        (3, "no node named gone"),
    ]


def test_a_rule_names_both_sides() -> None:
    policy = Policy(rules=(Rule("r", "allow", ("taint:dev",), ("taint:eu",)),))
    assert may_talk(policy, node("dev"), node("eu"))
    assert not may_talk(Policy("none", rules=policy.rules), node("dev"), node("dev"))
