# SPDX-License-Identifier: Apache-2.0
"""A skip whose reason the whole run does not know fails it at its end; this says so within the second."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import KNOWN_SKIPS

TESTS = Path(__file__).parents[1]
NEVER_IN_A_CLONE = "needs git history"  # a tarball has none: the run fails there, and should


def _start(node: ast.expr) -> str:
    """What a reason begins with: all of a literal, the first part of an f-string."""
    first = node.values[0] if isinstance(node, ast.JoinedStr) else node
    assert isinstance(first, ast.Constant) and isinstance(first.value, str), ast.unparse(node)
    return first.value


def _reasons(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        reason = next((word.value for word in call.keywords if word.arg == "reason"), None)
        if name.endswith(("mark.skip", "mark.skipif")) and reason is not None:
            yield call.lineno, _start(reason)
        elif name in ("pytest.skip", "pytest.importorskip"):
            yield call.lineno, _start(reason or call.args[0])


def _files() -> list[Path]:
    return sorted(path for path in TESTS.rglob("*.py") if path not in (Path(__file__), TESTS / "conftest.py"))


def test_every_skip_has_a_reason_the_run_knows() -> None:
    known = (*KNOWN_SKIPS, NEVER_IN_A_CLONE)
    found = [(path, line, why) for path in _files() for line, why in _reasons(ast.parse(path.read_text()))]
    assert len(found) > 10
    strangers = [f"{path.relative_to(TESTS)}:{line}: {why}" for path, line, why in found if not why.startswith(known)]
    assert not strangers, "name the reason in tests/conftest.py, or use pytest.mark.soak: " + "; ".join(strangers)


@pytest.mark.parametrize(
    "source", ['pytest.skip(f"no {tool} here")', 'x = pytest.mark.skipif(True, reason="VEILNET_SOAK=1: a minute")']
)
def test_a_stranger_is_seen(source: str) -> None:
    [(_, why)] = _reasons(ast.parse(source))
    assert not why.startswith(KNOWN_SKIPS)
