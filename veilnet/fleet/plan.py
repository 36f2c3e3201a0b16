# SPDX-License-Identifier: Apache-2.0
"""What has to be done so that a realm becomes what its file says. Pure: the same two states give the same plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from veilnet.fleet.actual import Actual, ActualNode, ActualToken
from veilnet.fleet.model import Edge, Fleet, WantedNode, whole_dns, whole_policy


class Action(StrEnum):
    CREATE_REALM = "create-realm"
    SETTINGS = "settings"
    DNS = "dns"
    POLICY = "policy"
    REVOKE_TOKEN = "revoke-token"  # noqa: S105 - a name
    CREATE_TOKEN = "create-token"  # noqa: S105 - a name
    TAINTS = "taints"
    LABELS = "labels"
    TOPOLOGY = "topology"
    REVOKE_NODE = "revoke-node"


@dataclass(frozen=True)
class Step:
    """One change by one request. `before` is what it expects to find, `target` the id of the row that it changes."""

    action: Action
    subject: str
    text: str
    target: str = ""
    before: Any = None
    after: Any = None


@dataclass(frozen=True)
class Plan:
    realm: str
    steps: tuple[Step, ...] = ()
    waiting: tuple[str, ...] = ()
    """Nodes of the file that have yet to enrol."""
    expired: tuple[str, ...] = ()
    """Nodes of the file that are out until somebody renews them."""
    pending: tuple[str, ...] = ()
    """Nodes of the file that enrolled and that nobody approved yet."""
    blocked: tuple[str, ...] = ()
    """What no step can do; while there is any, nothing is done."""
    notes: tuple[str, ...] = ()


_EMPTY: Final = Actual(ipv4_range="", settings={}, policy=whole_policy({}), dns=whole_dns({}))


def plan(fleet: Fleet, actual: Actual | None, *, prune: bool = False) -> Plan:
    """`prune`: nodes of the realm that the file does not name are revoked."""
    found = actual or _EMPTY
    early, late = _policy(fleet, found)
    strangers = sorted(found.nodes.keys() - fleet.nodes.keys())
    absent = [name for name in sorted(fleet.nodes, key=natural) if name not in found.nodes]
    steps = [
        *(_realm(fleet) if actual is None else _settings(fleet, found)),
        *_dns(fleet, found),
        *early,
        *_tokens(fleet, found, absent),
        *_taints(fleet, found),
        *_labels(fleet, found),
        *_topology(fleet, found),
        *late,
        *([_revocation(found.nodes[name]) for name in strangers] if prune else []),
    ]
    return Plan(
        fleet.realm,
        tuple(steps),
        waiting=tuple(absent),
        expired=tuple(node.name for node in _found(fleet, found) if node.expired),
        pending=tuple(node.name for node in _found(fleet, found) if node.pending),
        blocked=tuple(_blocked(fleet, found)) if actual else (),
        notes=() if prune or not strangers else (f"not in the file and left alone: {', '.join(strangers)}",),
    )


def plan_teardown(fleet: Fleet, actual: Actual | None) -> Plan:
    """Revoke the file's nodes, whose edges go with them, and the tokens that could bring them back."""
    if actual is None:
        return Plan(fleet.realm)
    tokens = [_token_revocation(token) for token in _sorted_tokens(actual) if token.node in fleet.nodes]
    nodes = [actual.nodes[name] for name in sorted(fleet.nodes, key=natural) if name in actual.nodes]
    left = len(actual.nodes) - len(nodes)
    others = f" with {left} nodes that the file does not name" if left else ""
    return Plan(
        fleet.realm,
        (*tokens, *(_revocation(node) for node in nodes)),
        notes=(f"realm {fleet.realm}, its settings, names and policy stay{others}",),
    )


def natural(name: str) -> tuple[str, int, str]:
    """Sorts n2 before n10."""
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or 0), name


# ---- realm ---------------------------------------------------------------------------------------------------------


def _realm(fleet: Fleet) -> Iterator[Step]:
    body: dict[str, Any] = {"name": fleet.realm}
    if fleet.ipv4_range:
        body["ipv4_range"] = fleet.ipv4_range
    if fleet.settings:
        body["settings"] = fleet.settings
    yield Step(Action.CREATE_REALM, fleet.realm, f"+ realm {fleet.realm}", after=body)


def _settings(fleet: Fleet, actual: Actual) -> Iterator[Step]:
    after = {**actual.settings, **fleet.settings}
    if after != actual.settings:
        changed = [
            f"{name} {actual.settings.get(name)} -> {value}"
            for name, value in sorted(fleet.settings.items())
            if actual.settings.get(name) != value
        ]
        text = f"~ settings: {', '.join(changed)}"
        yield Step(Action.SETTINGS, fleet.realm, text, before=actual.settings, after=after)


def _dns(fleet: Fleet, actual: Actual) -> Iterator[Step]:
    if fleet.dns is None or fleet.dns == actual.dns:
        return
    was, wish = actual.dns, fleet.dns
    parts = [f"suffix {was['suffix']} -> {wish['suffix']}"] if was["suffix"] != wish["suffix"] else []
    for sign, one, other in (("+", wish, was), ("-", was, wish)):
        parts += [f"{sign} {name}" for name in sorted(one["records"].keys() - other["records"].keys())]
    both = sorted(was["records"].keys() & wish["records"].keys())
    parts += [f"~ {name}" for name in both if was["records"][name] != wish["records"][name]]
    yield Step(Action.DNS, fleet.realm, f"~ names: {', '.join(parts)}", before=was, after=wish)


def _blocked(fleet: Fleet, actual: Actual) -> Iterator[str]:
    if fleet.ipv4_range and fleet.ipv4_range != actual.ipv4_range:
        yield f"realm {fleet.realm} has the range {actual.ipv4_range}, the file says {fleet.ipv4_range}: it is for life"
    for name, wanted in fleet.nodes.items():
        node = actual.nodes.get(name)
        if node and node.roles != wanted.roles:
            was, wish = "+".join(node.roles), "+".join(wanted.roles)
            yield f"{name} enrolled as {was}, the file says {wish}: `veilnet node revoke {name}`, then enrol it again"


# ---- policy --------------------------------------------------------------------------------------------------------


def _policy(fleet: Fleet, actual: Actual) -> tuple[list[Step], list[Step]]:
    """Before and after the nodes' taints change. The Master refuses a document whose tests don't hold: those that name
    a node not yet enrolled are left out, those that name one whose taints change come with the second step."""
    if fleet.policy is None:
        return [], []
    final = _tested(fleet.policy, actual.nodes.keys())
    if final == actual.policy:
        return [], []
    changing = {step.subject for step in _taints(fleet, actual)}
    first = _tested(final, actual.nodes.keys() - changing)
    steps = []
    before = actual.policy
    for document in (first, final):
        if document != before:
            parts = [part for part in document if document[part] != before[part]]
            text = f"~ policy: {', '.join(parts)}"
            steps.append(Step(Action.POLICY, fleet.realm, text, before=before, after=document))
        before = document
    late = steps[-1:] if first != final else []
    return [step for step in steps if step not in late], late


def _tested(document: dict[str, Any], known: Any) -> dict[str, Any]:
    """The document with those tests only whose nodes are known."""

    def fits(side: Any) -> bool:
        return not isinstance(side, str) or side in known

    return {**document, "tests": [test for test in document["tests"] if fits(test["a"]) and fits(test["b"])]}


# ---- nodes ---------------------------------------------------------------------------------------------------------


def _tokens(fleet: Fleet, actual: Actual, absent: list[str]) -> Iterator[Step]:
    ready: set[str] = set()
    for token in _sorted_tokens(actual):
        if token.node not in absent:
            continue
        if _fits(token, fleet.nodes[token.node]):
            ready.add(token.node)
        else:
            yield _token_revocation(token)
    for name in absent:
        if name not in ready:
            node = fleet.nodes[name]
            body = {
                "realm": fleet.realm,
                "roles": list(node.roles),
                "node_name": name,
                "usage_limit": 1,
                "expires_in": fleet.token_seconds,
                "auto_taints": list(node.taints or ()),
            }
            yield Step(Action.CREATE_TOKEN, name, f"+ token for {name} ({'+'.join(node.roles)})", after=body)


def _fits(token: ActualToken, node: WantedNode) -> bool:
    return token.roles == node.roles and (node.taints is None or token.taints == node.taints)


def _sorted_tokens(actual: Actual) -> list[ActualToken]:
    return sorted(actual.tokens, key=lambda token: (natural(token.node), token.id))


def _token_revocation(token: ActualToken) -> Step:
    return Step(Action.REVOKE_TOKEN, token.node, f"- token {token.id} for {token.node}", target=token.id)


def _revocation(node: ActualNode) -> Step:
    return Step(Action.REVOKE_NODE, node.name, f"- node {node.name}", target=node.id)


def _found(fleet: Fleet, actual: Actual) -> list[ActualNode]:
    """The file's nodes that are there."""
    return [actual.nodes[name] for name in sorted(fleet.nodes, key=natural) if name in actual.nodes]


def _enrolled(fleet: Fleet, actual: Actual) -> Iterator[tuple[WantedNode, ActualNode]]:
    for name in sorted(fleet.nodes.keys() & actual.nodes.keys(), key=natural):
        yield fleet.nodes[name], actual.nodes[name]


def _taints(fleet: Fleet, actual: Actual) -> Iterator[Step]:
    for wanted, node in _enrolled(fleet, actual):
        if wanted.taints is not None and wanted.taints != node.taints:
            text = f"~ taints of {node.name}: {_listed(node.taints)} -> {_listed(wanted.taints)}"
            before, after = list(node.taints), list(wanted.taints)
            yield Step(Action.TAINTS, node.name, text, target=node.id, before=before, after=after)


def _labels(fleet: Fleet, actual: Actual) -> Iterator[Step]:
    for wanted, node in _enrolled(fleet, actual):
        if wanted.labels is not None and wanted.labels != node.labels:
            keys = sorted(wanted.labels.items() ^ node.labels.items())
            text = f"~ labels of {node.name}: {', '.join(sorted({key for key, _ in keys}))}"
            yield Step(Action.LABELS, node.name, text, target=node.id, before=node.labels, after=wanted.labels)


def _listed(words: tuple[str, ...]) -> str:
    return f"[{', '.join(words)}]"


# ---- topology ------------------------------------------------------------------------------------------------------


def _topology(fleet: Fleet, actual: Actual) -> Iterator[Step]:
    """The file decides about edges between its own nodes. Edges of nodes that have yet to enrol come later."""
    if fleet.links is None:
        return
    foreign = {pair for pair in actual.edges if not fleet.nodes.keys() >= set(pair)}
    after = foreign | {pair for pair in fleet.links if actual.nodes.keys() >= set(pair)}
    gone, new = actual.edges - after, after - actual.edges
    if gone or new:
        parts = [f"+ {_drawn(new)}"] * bool(new) + [f"- {_drawn(gone)}"] * bool(gone)
        text = f"~ topology: {'; '.join(parts)}"
        yield Step(Action.TOPOLOGY, fleet.realm, text, before=_pairs(actual.edges), after=_pairs(after))


def _pairs(edges: Any) -> list[list[str]]:
    return [list(pair) for pair in sorted(edges, key=lambda pair: (natural(pair[0]), natural(pair[1])))]


def _drawn(edges: set[Edge] | frozenset[Edge], most: int = 12) -> str:
    drawn = [f"{a}-{b}" for a, b in _pairs(edges)]
    more = f" and {len(drawn) - most} more" if len(drawn) > most else ""
    return f"{', '.join(drawn[:most])}{more}"
