# SPDX-License-Identifier: Apache-2.0
"""How the command line speaks: results on stdout, everything else on stderr, one exit code per kind of failure."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Final, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table

PIPED_WIDTH: Final = 240  # columns; a pipe has none of its own, and wrapped cells can't be cut


class Exit(IntEnum):
    """Exit codes, the same for every command. 2 is also what a wrong command line gives."""

    OK = 0
    FAILED = 1
    """The request was understood and refused, or a check did not pass."""
    USAGE = 2
    UNREACHABLE = 3
    """Master or key daemon did not answer."""
    NOT_PERMITTED = 4
    """Needs root, or a credential."""


class CliError(Exception):
    """What happened and where, and what to do about it."""

    def __init__(self, what: str, remedy: str = "", code: Exit = Exit.FAILED) -> None:
        super().__init__(what)
        self.remedy = remedy
        self.code = code


def say(text: str) -> None:
    """A note for the person at the terminal, on stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(escape(text))


def complain(error: CliError) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]error:[/] {escape(str(error))}")
    if error.remedy:
        console.print(f"[bold]to do:[/] {escape(error.remedy)}")


def fail(what: str, remedy: str = "", code: Exit = Exit.FAILED) -> NoReturn:
    raise CliError(what, remedy, code)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True) + "\n")


def print_plain(text: str) -> None:
    """One value alone on stdout, so that it can be piped."""
    sys.stdout.write(text + "\n")


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """A table of some columns for people, all of the rows as JSON for programs."""
    if as_json:
        print_json(list(rows))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(row.get(column))) for column in columns))
    Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ",".join(_cell(item) for item in value)
    if isinstance(value, dict):
        return " ".join(f"{key}={_cell(item)}" for key, item in value.items())
    return str(value)
