# SPDX-License-Identifier: Apache-2.0
"""Requests made from the OpenAPI document, right and wrong: no server error, no answer that is not documented.

VEILNET_FUZZ_CASES says how many (`./run fuzz`: 20,000); by default a few for each operation.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from tests.fuzz.known import Known
from tests.fuzz.master import Fuzzed, fuzzed_master

CASES = int(os.environ.get("VEILNET_FUZZ_CASES", "0"))
FEW = 8
CHECKS: list[Any] = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    with fuzzed_master(tmp_path_factory.mktemp("fuzz")) as found:
        yield found


def test_every_answer_is_documented(fuzzed: Fuzzed) -> None:
    schema = schemathesis.openapi.from_url(f"{fuzzed.url}/openapi.json")
    operations: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    known = Known()
    each = max(FEW, -(-CASES // len(operations)))
    while operations:
        fruitful = []
        for operation in operations:
            before = sum(seen.values())
            wrong += _faults(operation, fuzzed, each, seen, known)
            if sum(seen.values()) - before > each // 2:  # one without parameters has a single case
                fruitful.append(operation)
        left = CASES - sum(seen.values())
        if wrong or left <= 0:
            break
        operations, each = fruitful, max(FEW, -(-left // len(fruitful)))
    print(f"{sum(seen.values())} cases, answers {dict(sorted(seen.items()))}")
    assert not wrong, "\n\n".join(wrong)
    assert sum(seen.values()) >= CASES


def _faults(operation: Any, fuzzed: Fuzzed, examples: int, seen: Counter[str], known: Known) -> list[str]:
    """What is wrong with one operation; the next is tried all the same."""
    try:
        _attack(operation, fuzzed, examples, seen, known)
    except BaseExceptionGroup as group:
        return [f"{operation.label}: {error}" for error in group.exceptions]
    except Exception as error:
        return [f"{operation.label}: {error}"]
    return []


def _attack(operation: Any, fuzzed: Fuzzed, examples: int, seen: Counter[str], known: Known) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(case=operation.as_strategy())
    def attack(case: Any) -> None:
        known.aim(case, fuzzed)
        response = case.call(headers=fuzzed.headers)
        seen[str(response.status_code)] += 1
        known.learn(response)
        case.validate_response(response, checks=CHECKS)

    attack()
