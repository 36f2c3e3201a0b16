# SPDX-License-Identifier: Apache-2.0
"""The numbered steps of docs/protocol.md and the labels in the code are the same set.

A label in the spec is `[XXn]`; in Python a comment that names it (`# HA1`, or several: `# RK2, SK3`), in C the same in
a `/* */` or `//` comment.
"""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC_LABEL = re.compile(r"\[([A-Z]{2}\d+)\]")
PYTHON_PARTS = ("veilnet/protocol", "veilnet/keyd")
C_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def spec_labels() -> set[str]:
    return set(SPEC_LABEL.findall((ROOT / "docs/protocol.md").read_text()))


def label_pattern(families: set[str]) -> re.Pattern[str]:
    """A label of one of the spec's families, so that `AES256` or `X25519` in a comment is none."""
    return re.compile(r"\b((?:" + "|".join(sorted(families)) + r")\d+)\b")


def python_comments(source: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def c_comments(source: str) -> list[str]:
    return C_COMMENT.findall(source)


def code_labels() -> dict[str, set[str]]:
    """label → files that carry it."""
    pattern = label_pattern({label[:2] for label in spec_labels()})
    found: dict[str, set[str]] = {}
    python = [path for part in PYTHON_PARTS for path in sorted((ROOT / part).rglob("*.py"))]
    native = sorted(path for path in (ROOT / "bpf").iterdir() if path.suffix in {".c", ".h"})
    for path in python + native:
        comments = python_comments if path.suffix == ".py" else c_comments
        for label in pattern.findall("\n".join(comments(path.read_text()))):
            found.setdefault(label, set()).add(str(path.relative_to(ROOT)))
    return found


def test_every_step_of_the_spec_stands_in_the_code() -> None:
    assert spec_labels() - set(code_labels()) == set()


def test_every_label_in_the_code_is_a_step_of_the_spec() -> None:
    unknown = {label: files for label, files in code_labels().items() if label not in spec_labels()}
    assert unknown == {}


def test_spec_numbers_no_step_twice() -> None:
    text = (ROOT / "docs/protocol.md").read_text()
    defined = re.findall(r"^(?:- |Start, both: )\[([A-Z]{2}\d+)\]", text, re.MULTILINE)
    assert sorted(defined) == sorted(set(defined))
    assert set(defined) == spec_labels()


@pytest.mark.parametrize(
    ("source", "labels"),
    [("x = 1  # HA1, HA2: both", ["HA1", "HA2"]), ("s = 'HA1'", []), ('"""HA1"""', []), ("# X25519 and AES256", [])],
)
def test_only_comments_count(source: str, labels: list[str]) -> None:
    assert label_pattern({"HA"}).findall("\n".join(python_comments(source))) == labels
