# SPDX-License-Identifier: Apache-2.0
"""Carries a plan out, step by step. Each step looks again first: what differs from the plan's view stops it, and
If-Match stops it if somebody is faster still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from veilnet.client.api import Api
from veilnet.client.transport import ApiProblem, Unreachable
from veilnet.files import private_directory, write_private
from veilnet.fleet.actual import read_edges
from veilnet.fleet.model import edge, whole_dns, whole_policy
from veilnet.fleet.plan import Action, Plan, Step


class Stale(Exception):  # noqa: N818 - what happened
    """The Master has something else than the plan saw."""


@dataclass
class Outcome:
    """What was done and, if not all, which step failed and why. The steps behind it were not begun."""

    done: list[Step] = field(default_factory=list)
    failed: Step | None = None
    error: Exception | None = None


def apply(api: Api, plan: Plan, tokens_dir: Path | None, report: Callable[[Step], None]) -> Outcome:
    """Stops at the first failure. `tokens_dir` is needed if the plan makes tokens. `report` hears of each step done."""
    outcome = Outcome()
    worker = _Worker(api, plan.realm, tokens_dir)
    for step in plan.steps:
        try:
            worker.carry_out(step)
        except (ApiProblem, Unreachable, Stale, OSError) as error:
            outcome.failed, outcome.error = step, error
            return outcome
        outcome.done.append(step)
        report(step)
    return outcome


class _Worker:
    def __init__(self, api: Api, realm: str, tokens_dir: Path | None) -> None:
        self._api, self._realm, self._tokens_dir = api, realm, tokens_dir
        self._ways: dict[Action, Callable[[Step], object]] = {
            Action.CREATE_REALM: lambda step: api.create_realm(step.after),
            Action.SETTINGS: self._settings,
            Action.DNS: self._dns,
            Action.POLICY: self._policy,
            Action.REVOKE_TOKEN: lambda step: api.revoke_enrolment_token(step.target),
            Action.CREATE_TOKEN: self._token,
            Action.TAINTS: self._taints,
            Action.LABELS: self._labels,
            Action.TOPOLOGY: self._topology,
            Action.REVOKE_NODE: lambda step: api.revoke_node(step.target),
        }

    def carry_out(self, step: Step) -> None:
        self._ways[step.action](step)

    def _settings(self, step: Step) -> None:
        _unchanged(step, self._api.get_realm_settings(self._realm))
        self._api.replace_realm_settings(self._realm, step.after, if_match=self._api.etag)

    def _dns(self, step: Step) -> None:
        _unchanged(step, whole_dns(dict(self._api.get_realm_dns(self._realm))))
        self._api.replace_realm_dns(self._realm, step.after, if_match=self._api.etag)

    def _policy(self, step: Step) -> None:
        _unchanged(step, whole_policy(dict(self._api.get_policy(self._realm)["document"])))
        self._api.replace_policy(self._realm, step.after, if_match=self._api.etag)

    def _token(self, step: Step) -> None:
        """A token whose file can't be written is of no use to anybody: it is revoked again."""
        assert self._tokens_dir is not None, "a plan that makes tokens needs a directory for them"
        private_directory(self._tokens_dir)
        made = self._api.create_enrolment_token(step.after)
        try:
            write_private(self._tokens_dir / step.subject, made["token"].encode() + b"\n")
        except OSError:
            self._api.revoke_enrolment_token(made["id"])
            raise

    def _taints(self, step: Step) -> None:
        found = self._api.get_node_taints(step.target)
        _unchanged(step, sorted(found["taints"]))
        self._api.replace_node_taints(step.target, {"taints": step.after}, if_match=self._api.etag)

    def _labels(self, step: Step) -> None:
        found = self._api.get_node(step.target)["labels"]
        _unchanged(step, found)
        gone: dict[str, Any] = dict.fromkeys(found.keys() - step.after.keys())
        self._api.update_node(step.target, {"labels": {**gone, **step.after}}, if_match=self._api.etag)

    def _topology(self, step: Step) -> None:
        self._api.list_edges(self._realm, limit=1)
        tag = self._api.etag  # of the whole topology, and from before it is read
        found = read_edges(self._api, self._realm)
        if found != {edge(a, b) for a, b in step.before}:
            raise Stale(f"edges of {self._realm} changed since the plan was made")
        self._api.replace_topology(self._realm, {"edges": [{"a": a, "b": b} for a, b in step.after]}, if_match=tag)


def _unchanged(step: Step, found: Any) -> None:
    if found != step.before:
        raise Stale(f"{step.action} of {step.subject} changed since the plan was made")
