# SPDX-License-Identifier: Apache-2.0
"""The part of the lock that VeilNet needs to run: what a machine gets, without the tools of development."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def _normal(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _required(requirement: str) -> tuple[str, set[str]]:
    """(name, extras) of a requirement as PEP 508 writes it."""
    match = _NAME.match(requirement)
    assert match, requirement
    extras = re.match(r"\s*\[([^\]]*)\]", requirement[match.end() :])
    return _normal(match.group()), {each.strip() for each in extras.group(1).split(",")} if extras else set()


def closure() -> set[str]:
    """Names of everything that `project.dependencies` asks for, directly or not, as installed here.

    A requirement of an extra counts when somebody asked for that extra; one that is not installed is for another
    platform.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    todo = [_required(text) for text in project["dependencies"]]
    seen: dict[str, set[str]] = {}
    while todo:
        name, extras = todo.pop()
        if name in seen and extras <= seen[name]:
            continue
        seen[name] = seen.get(name, set()) | extras
        try:
            wanted = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            del seen[name]
            continue
        for text in wanted:
            extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", text)
            if extra is None or extra.group(1) in seen[name]:
                todo.append(_required(text))
    return set(seen)


def lines(names: set[str]) -> str:
    """requirements.lock cut down to these names, hashes included."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    blocks = re.findall(r"^[a-z0-9][^\n]*(?:\n[ ]{4}[^\n]*)*", text, re.MULTILINE)
    return "".join(f"{block}\n" for block in blocks if _normal(block.split("==")[0]) in names)
