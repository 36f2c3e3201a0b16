# SPDX-License-Identifier: Apache-2.0
"""Who may talk to whom (docs/policy.md): one symmetric, total rule over what the realm CA has signed.

Pure: `decide(policy, a, b)` needs two nodes' names and taints and nothing else, so a node computes for itself what the
Master computes. Granted taints stand in a node's certificate; worn ones are those of them that its descriptor keeps.
Allow rules and shared taints look at what is worn, deny rules at what is granted: so narrowing never widens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, Protocol

from veilnet.protocol.envelope import Fields, MalformedDocument

TAINT: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
RULES_MAX: Final = 256
GROUPS_MAX: Final = 256
SELECTORS_MAX: Final = 64
TESTS_MAX: Final = 512
TAINTS_MAX: Final = 32

Effect = Literal["allow", "deny"]
Default = Literal["taints", "none"]


class Member(Protocol):
    """What the rule looks at of a node: `taints` are granted, `worn` a subset of them."""

    @property
    def name(self) -> str: ...
    @property
    def taints(self) -> frozenset[str]: ...
    @property
    def worn(self) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """A node as the rule sees it; a hypothetical one may have the empty name, which no selector means."""

    name: str
    taints: frozenset[str] = frozenset()
    worn: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a rule with its groups put in: a union of selectors."""

    everyone: bool = False
    untainted: bool = False
    taints: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    def holds(self, member: Member, taints: frozenset[str]) -> bool:
        """Whether `member` with these of its taints is meant. `untainted` is always about granted ones."""
        return (
            self.everyone
            or member.name in self.names
            or not self.taints.isdisjoint(taints)
            or (self.untainted and not member.taints)
        )

    def __or__(self, other: Side) -> Side:
        return Side(
            self.everyone or other.everyone,
            self.untainted or other.untainted,
            self.taints | other.taints,
            self.names | other.names,
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """Speaks of each pair with one node on either side, in either order."""

    name: str
    effect: Effect
    between: tuple[str, ...]
    and_: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """`default`: what holds where no rule speaks. Groups are named unions of selectors and don't nest."""

    default: Default = "taints"
    groups: Mapping[str, tuple[str, ...]] | None = None
    rules: tuple[Rule, ...] = ()

    @cached_property
    def sides(self) -> tuple[tuple[Rule, Side, Side], ...]:
        """Each rule with its sides resolved."""
        groups = self.groups or {}
        return tuple((rule, _side(rule.between, groups), _side(rule.and_, groups)) for rule in self.rules)

    @cached_property
    def denies(self) -> tuple[tuple[Rule, Side, Side], ...]:
        return tuple(item for item in self.sides if item[0].effect == "deny")

    @cached_property
    def allows(self) -> tuple[tuple[Rule, Side, Side], ...]:
        return tuple(item for item in self.sides if item[0].effect == "allow")


OPEN: Final = Policy()
"""A realm without a policy document: shared taints talk, and untainted nodes talk among themselves."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`reasons` name everything that counted: the rules that deny, else what allows, else what is missing."""

    allowed: bool
    reasons: tuple[str, ...]


def decide(policy: Policy, a: Member, b: Member) -> Decision:
    """May `a` and `b` talk: symmetric, defined for every pair, and never wider for a node that wears less."""
    denied = tuple(f"denied by rule {rule.name}" for rule, one, other in policy.denies if _speaks(one, other, a, b))
    if denied:
        return Decision(False, denied)
    allowed = [f"allowed by rule {rule.name}" for rule, one, other in policy.allows if _wears(one, other, a, b)]
    if policy.default == "taints":
        allowed += [f"both wear taint {taint}" for taint in sorted(a.worn & b.worn)]
        if not a.taints and not b.taints:
            allowed.append("neither has a taint")
    if allowed:
        return Decision(True, tuple(allowed))
    missing = "they share no taint" if policy.default == "taints" else "the default is none"
    return Decision(False, (f"no rule allows it and {missing}",))


def may_talk(policy: Policy, a: Member, b: Member) -> bool:
    return decide(policy, a, b).allowed


@dataclass(frozen=True, slots=True)
class Profile:
    """A node as a policy sees it, for comparing many: which sides of which rules it stands on, a bit a rule."""

    untainted: bool
    worn: frozenset[str]
    allow: tuple[int, int]
    deny: tuple[int, int]


def profile(policy: Policy, member: Member) -> Profile:
    allow, deny = _bits(policy.allows, member, member.worn), _bits(policy.denies, member, member.taints)
    return Profile(not member.taints, member.worn, allow, deny)


def profiles_talk(policy: Policy, a: Profile, b: Profile) -> bool:
    """`may_talk` of two nodes by their profiles under the same policy, at a cost that rules hardly add to."""
    if (a.deny[0] & b.deny[1]) | (b.deny[0] & a.deny[1]):
        return False
    if (a.allow[0] & b.allow[1]) | (b.allow[0] & a.allow[1]):
        return True
    return policy.default == "taints" and (not a.worn.isdisjoint(b.worn) or (a.untainted and b.untainted))


def _bits(rules: tuple[tuple[Rule, Side, Side], ...], member: Member, taints: frozenset[str]) -> tuple[int, int]:
    one = sum(1 << place for place, (_, side, _other) in enumerate(rules) if side.holds(member, taints))
    other = sum(1 << place for place, (_, _one, side) in enumerate(rules) if side.holds(member, taints))
    return one, other


def reach(policy: Policy, member: Member) -> Side:
    """A superset of the nodes that `member` may talk to, as selectors over what they wear: what an index is asked."""
    found = Side()
    for _, one, other in policy.allows:
        if one.holds(member, member.worn):
            found |= other
        if other.holds(member, member.worn):
            found |= one
    if policy.default == "taints":
        found |= Side(untainted=not member.taints, taints=member.worn)
    return found


def _speaks(one: Side, other: Side, a: Member, b: Member) -> bool:
    return _either(one, other, (a, a.taints), (b, b.taints))


def _wears(one: Side, other: Side, a: Member, b: Member) -> bool:
    return _either(one, other, (a, a.worn), (b, b.worn))


_With = tuple[Member, frozenset[str]]


def _either(one: Side, other: Side, a: _With, b: _With) -> bool:
    """One node on each side, in either order."""
    return (one.holds(*a) and other.holds(*b)) or (one.holds(*b) and other.holds(*a))


def _side(selectors: Iterable[str], groups: Mapping[str, tuple[str, ...]]) -> Side:
    found = Side()
    for selector in selectors:
        kind, _, value = selector.partition(":")
        if kind == "group":
            found |= _side(groups[value], {})
        elif kind == "taint":
            found |= Side(taints=frozenset({value}))
        elif kind == "node":
            found |= Side(names=frozenset({value}))
        else:
            found |= Side(everyone=kind == "*", untainted=kind == "untainted")
    return found


# ---- the document ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expectation:
    """A test that stands in the policy document. A side is a hypothetical node, or the name of a real one."""

    a: Subject | str
    b: Subject | str
    allowed: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """Place of a test in the document and what is wrong with it."""

    index: int
    detail: str


def read_policy(value: Any) -> Policy:
    """The policy of a document's JSON object; unknown fields are refused. Raises MalformedDocument."""
    return read_document(value)[0]


def read_document(value: Any) -> tuple[Policy, tuple[Expectation, ...]]:
    """Policy and tests. Every field may be left out; what is left out is empty, and `default` is "taints"."""
    if not isinstance(value, Mapping):
        raise MalformedDocument("policy: not an object")
    fields = Fields({"default": "taints", "groups": {}, "rules": [], "tests": [], **value}, "policy")
    default = fields.text("default")
    if default not in {"taints", "none"}:
        raise MalformedDocument('policy: default is "taints" or "none"')
    groups = _groups(fields.take("groups"))
    rules = tuple(_rule(item, groups) for item in fields.array("rules", RULES_MAX))
    tests = tuple(_expectation(item) for item in fields.array("tests", TESTS_MAX))
    fields.end()
    if len({rule.name for rule in rules}) != len(rules):
        raise MalformedDocument("policy: two rules have one name")
    return Policy("taints" if default == "taints" else "none", groups, rules), tests


def policy_json(policy: Policy) -> dict[str, Any]:
    """What is signed: without the tests, which no node needs."""
    return {
        "default": policy.default,
        "groups": {name: list(selectors) for name, selectors in (policy.groups or {}).items()},
        "rules": [
            {"name": rule.name, "effect": rule.effect, "between": list(rule.between), "and": list(rule.and_)}
            for rule in policy.rules
        ],
    }


def run_tests(
    policy: Policy, tests: Collection[Expectation], find: Callable[[str], Member | None]
) -> tuple[Failure, ...]:
    """The tests that do not hold; `find` gives a real node by its name, None if there is none."""
    failures: list[Failure] = []
    for index, test in enumerate(tests):
        ends = [find(end) if isinstance(end, str) else end for end in (test.a, test.b)]
        a, b = ends
        if a is None or b is None:
            failures.append(Failure(index, f"no node named {test.a if a is None else test.b}"))
            continue
        decision = decide(policy, a, b)
        if decision.allowed != test.allowed:
            wanted = "allowed" if test.allowed else "refused"
            failures.append(Failure(index, f"expected to be {wanted}, but: {'; '.join(decision.reasons)}"))
    return tuple(failures)


def check_taint(text: str) -> str:
    if not TAINT.fullmatch(text):
        raise MalformedDocument("taint: a-z, 0-9 and inner . _ - only, at most 63 characters")
    return text


def _groups(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, Mapping) or len(value) > GROUPS_MAX:
        raise MalformedDocument(f"policy: groups are not an object of at most {GROUPS_MAX}")
    groups = {}
    for name, selectors in value.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise MalformedDocument("policy: a group's name is not a DNS label")
        groups[name] = _selectors(selectors, {}, f"group {name}")
    return groups


def _rule(item: Any, groups: Mapping[str, tuple[str, ...]]) -> Rule:
    fields = Fields(item, "policy rule")
    name, effect = fields.text("name"), fields.text("effect")
    if not NAME.fullmatch(name):
        raise MalformedDocument("policy: a rule's name is not a DNS label")
    if effect not in {"allow", "deny"}:
        raise MalformedDocument(f'policy rule {name}: effect is "allow" or "deny"')
    between = _selectors(fields.take("between"), groups, f"rule {name}")
    and_ = _selectors(fields.take("and"), groups, f"rule {name}")
    fields.end()
    return Rule(name, "allow" if effect == "allow" else "deny", between, and_)


def _selectors(value: Any, groups: Mapping[str, object], where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= SELECTORS_MAX:
        raise MalformedDocument(f"policy {where}: not a list of 1 to {SELECTORS_MAX} selectors")
    for selector in value:
        if not isinstance(selector, str) or not _is_selector(selector, groups):
            shown = repr(selector)[:80]
            raise MalformedDocument(
                f"policy {where}: {shown} is none of *, untainted, taint:NAME, node:NAME, group:NAME of a known group"
            )
    return tuple(value)


def _is_selector(selector: str, groups: Mapping[str, object]) -> bool:
    kind, colon, value = selector.partition(":")
    if not colon:
        return kind in {"*", "untainted"}
    if kind == "group":
        return value in groups
    pattern = {"taint": TAINT, "node": NAME}.get(kind)
    return pattern is not None and pattern.fullmatch(value) is not None


def _expectation(item: Any) -> Expectation:
    fields = Fields(item, "policy test")
    a, b, allowed = _end(fields.take("a")), _end(fields.take("b")), fields.take("allowed")
    fields.end()
    if not isinstance(allowed, bool):
        raise MalformedDocument("policy test: allowed is not true or false")
    return Expectation(a, b, allowed)


def _end(value: Any) -> Subject | str:
    if isinstance(value, str):
        if not NAME.fullmatch(value):
            raise MalformedDocument("policy test: a node's name is a DNS label")
        return value
    if not isinstance(value, Mapping):
        raise MalformedDocument("policy test: a side is a node's name or an object")
    fields = Fields({"name": "", "taints": [], "worn": None, **value}, "policy test")
    name, taints, worn = fields.text("name"), fields.texts("taints", TAINTS_MAX), fields.take("worn")
    fields.end()
    worn_set = taints if worn is None else Fields({"worn": worn}, "policy test").texts("worn", TAINTS_MAX)
    if name and not NAME.fullmatch(name):
        raise MalformedDocument("policy test: a node's name is a DNS label")
    for taint in taints | worn_set:
        check_taint(taint)
    return Subject(name, taints, taints & worn_set)
