# SPDX-License-Identifier: Apache-2.0
"""Rules of the layout, read from the syntax trees. Each rule is also shown to catch what it forbids."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "veilnet"

IO_MODULES = {
    "asyncio", "datetime", "fcntl", "httpx", "http", "mmap", "multiprocessing", "pyroute2", "random", "secrets",
    "select", "selectors", "signal", "socket", "ssl", "subprocess", "tempfile", "time", "uuid", "websockets",
}  # fmt: skip
IO_ATTRIBUTES = {("os", "urandom"), ("os", "getrandom"), ("os", "open"), ("os", "read"), ("os", "write")}
IO_CALLS = {"open", "input", "print"}
KEYD_SHELL = {
    "shell",
    "spread",
    "routes",
    "advertise",
    "statements",
    "problem",
    "master_socket",
    "node",
    "node_files",
    "directory_file",
    "enrol",
    "main",
    "__main__",
    "bpf_plane",
    "ring",
    "control",
    "raw",
    "netinfo",
}
"""Modules of keyd that do I/O; every other one is part of the sans-IO engine."""
SQL_NAMES = {"select", "insert", "update", "delete", "text", "func", "exists", "union", "literal_column", "or_", "and_"}
SQL_FILES = {"repository.py", "models.py", "db.py"}


def imported(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """(module, name or "", line) of every import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, alias.name, node.lineno) for alias in node.names)


def bcc_imports(tree: ast.AST) -> list[str]:
    return [f"line {line}: imports {module}" for module, _, line in imported(tree) if module.split(".")[0] == "bcc"]


def sql_uses(tree: ast.AST) -> list[str]:
    found = []
    for module, name, line in imported(tree):
        if module.split(".")[0] == "sqlalchemy" and (name in SQL_NAMES or not name):
            found.append(f"line {line}: imports {name or module}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            if node.func.attr in {"execute", "scalar", "scalars", "exec_driver_sql", "merge"} and "session" in owner:
                found.append(f"line {node.lineno}: calls {owner}.{node.func.attr}")
    return found


def commits(tree: ast.AST) -> list[str]:
    return [
        f"line {node.lineno}: {ast.unparse(node.func)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"commit", "rollback"}
    ]


def io_uses(tree: ast.AST) -> list[str]:
    found = [
        f"line {line}: imports {module}" for module, _, line in imported(tree) if module.split(".")[0] in IO_MODULES
    ]
    found += [
        f"line {line}: imports {module}.{name}"
        for module, name, line in imported(tree)
        if (module, name) in IO_ATTRIBUTES
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in IO_ATTRIBUTES:
                found.append(f"line {node.lineno}: {node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IO_CALLS:
            found.append(f"line {node.lineno}: {node.func.id}()")
    return found


def broken(files: Iterator[Path], rule: Callable[[ast.AST], list[str]]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} {fault}" for path in sorted(files) for fault in rule(ast.parse(path.read_text()))
    ]


def outside(folder: Path, *inner: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.py") if not any(path.is_relative_to(place) for place in inner))


def sans_io() -> Iterator[Path]:
    yield from (PACKAGE / "protocol").rglob("*.py")
    yield from (path for path in (PACKAGE / "oidc").rglob("*.py") if path.stem not in {"fetch", "login"})
    yield from (path for path in (PACKAGE / "keyd").rglob("*.py") if path.stem not in KEYD_SHELL)


def test_only_the_loader_imports_bcc() -> None:
    assert broken(outside(PACKAGE, PACKAGE / "loader"), bcc_imports) == []


def test_sql_stands_in_repositories_only() -> None:
    api = PACKAGE / "api"
    files = (path for path in outside(api, api / "migrations") if path.name not in SQL_FILES)
    assert broken(files, sql_uses) == []
    assert broken(outside(PACKAGE, api), sql_uses) == []


def test_only_the_session_dependency_commits() -> None:
    files = (path for path in (PACKAGE / "api").rglob("*.py") if path.name not in {"db.py", "sqlite.py"})
    assert broken(files, commits) == []


def test_the_core_does_no_io_and_knows_no_clock() -> None:
    assert broken(sans_io(), io_uses) == []


def test_every_source_file_names_its_licence() -> None:
    files = [path for folder in ("veilnet", "tests") for path in (ROOT / folder).rglob("*.py")]
    heads = {path: path.read_text()[:200] for path in files}
    unnamed = [path for path, text in heads.items() if text and "SPDX-License-Identifier: Apache-2.0" not in text]
    assert unnamed == []


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (bcc_imports, "import bcc"),
        (bcc_imports, "from bcc import BPF"),
        (bcc_imports, "def f():\n    from bcc.table import x"),
        (sql_uses, "from sqlalchemy import select"),
        (sql_uses, "import sqlalchemy as sa"),
        (sql_uses, "from sqlalchemy.sql import text"),
        (sql_uses, "async def f(session):\n    await session.execute(x)"),
        (sql_uses, "async def f(self):\n    return await self.session.scalars(x)"),
        (commits, "async def f(session):\n    await session.commit()"),
        (io_uses, "import time"),
        (io_uses, "from random import Random"),
        (io_uses, "import secrets, json"),
        (io_uses, "import os\nx = os.urandom(8)"),
        (io_uses, "from os import urandom"),
        (io_uses, "def f():\n    import socket"),
        (io_uses, "x = open('y')"),
        (io_uses, "from datetime import datetime"),
        (io_uses, "import asyncio.events"),
    ],
)
def test_rules_catch_what_they_forbid(rule: Callable[[ast.AST], list[str]], code: str) -> None:
    assert rule(ast.parse(code)) != []


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (bcc_imports, "import bccx\nfrom veilnet.loader import program"),
        (sql_uses, "from sqlalchemy.ext.asyncio import AsyncSession\nfrom sqlalchemy.exc import IntegrityError"),
        (sql_uses, "await_ = session.refresh(row)"),
        (io_uses, "from ipaddress import ip_address\nimport os.path\nfrom veilnet.protocol import session"),
        (io_uses, "def f(now: float, rng) -> bytes:\n    return rng(8)"),
    ],
)
def test_rules_let_the_rest_pass(rule: Callable[[ast.AST], list[str]], code: str) -> None:
    assert rule(ast.parse(code)) == []
