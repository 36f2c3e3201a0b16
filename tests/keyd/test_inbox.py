# SPDX-License-Identifier: Apache-2.0
"""Bounded, fair queues and budgets."""

from __future__ import annotations

from veilnet.keyd.budget import SWEEP, Budget
from veilnet.keyd.inbox import PER_FLOW, TOTAL, Inbox


def drained(inbox: Inbox[int]) -> list[int]:
    taken = []
    while (item := inbox.take()) is not None:
        taken.append(item)
    return taken


def test_flows_take_turns_and_keep_their_order() -> None:
    inbox: Inbox[int] = Inbox()
    for item in range(10):
        inbox.put("loud", item)
    inbox.put("quiet", 100)
    inbox.put("quiet", 101)
    assert drained(inbox) == [0, 100, 1, 101, 2, 3, 4, 5, 6, 7, 8, 9]
    assert len(inbox) == inbox.dropped == 0


def test_a_flow_that_is_too_long_loses_its_oldest() -> None:
    inbox: Inbox[int] = Inbox()
    for item in range(PER_FLOW + 5):
        inbox.put("loud", item)
    inbox.put("quiet", -1)
    assert inbox.dropped == 5
    assert drained(inbox) == [5, -1, *range(6, PER_FLOW + 5)]


def test_the_longest_flow_makes_room() -> None:
    inbox: Inbox[int] = Inbox()
    for flow in range(TOTAL // PER_FLOW):
        for item in range(PER_FLOW):
            inbox.put(flow, item)
    for late in range(20):
        inbox.put(f"late {late}", 1000 + late)
    assert len(inbox) == TOTAL
    assert inbox.dropped == 20
    assert {item for item in drained(inbox) if item >= 1000} == set(range(1000, 1020))


def test_single_items_of_many_flows_stay_within_the_bound() -> None:
    inbox: Inbox[int] = Inbox()
    for flow in range(3 * TOTAL):
        inbox.put(flow, flow)
    assert len(inbox) == len(drained(inbox)) == TOTAL
    assert inbox.dropped == 2 * TOTAL


def test_a_budget_gives_a_burst_then_a_rate_to_each_peer() -> None:
    budget = Budget(10.0, 20)
    assert sum(budget.take(b"a", 5.0) for _ in range(100)) == 20
    assert budget.take(b"b", 5.0)
    assert sum(budget.take(b"a", 6.0) for _ in range(100)) == 10
    assert sum(budget.take(b"a", 1000.0) for _ in range(100)) == 20


def test_a_budget_forgets_who_asks_no_more() -> None:
    budget = Budget(10.0, 20)
    for number in range(SWEEP):
        budget.take(number.to_bytes(4, "big"), 1.0)
    budget.take(b"late", 2.0)
    assert list(budget._due) == [b"late"]
