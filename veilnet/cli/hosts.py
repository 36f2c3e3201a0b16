# SPDX-License-Identifier: Apache-2.0
"""`veilnet hosts`: names of the realm as this node knows them, to print or to keep in a file like /etc/hosts."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilnet.cli import daemon
from veilnet.cli.admin import AsJson
from veilnet.cli.node import Instance
from veilnet.cli.output import Exit, fail, print_json, print_plain, say
from veilnet.protocol.names import DOMAIN_MAX, PRIVATE_SUFFIXES, is_domain, is_private

PERIOD: Final = 5.0
"""Seconds from one look to the next with --follow."""


def hosts(  # noqa: PLR0917 - each is an option of the command line
    instance: Instance = "default",
    write: Annotated[Path | None, typer.Option("--write", help="Keep the lines in this file.")] = None,
    remove: Annotated[Path | None, typer.Option("--remove", help="Take our lines out of this file.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="With --write: stay, and follow changes.")] = False,
    suffix: Annotated[
        str | None, typer.Option("--suffix", help="Take this suffix, though it is none that is set aside.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Names of the nodes that this node may see, and the realm's records."""
    if remove is not None:
        _put(remove, instance, "")
        return
    if follow and write is None:
        fail("--follow needs --write FILE", code=Exit.USAGE)
    if as_json and write is not None:
        fail("--json prints, --write writes a file of lines: one of them", code=Exit.USAGE)
    while True:
        answer = daemon.ask(instance, {"command": "hosts"})
        if as_json:
            print_json(answer)
        elif write is None:
            print_plain(lines(answer).rstrip("\n"))
        else:
            _check_suffix(str(answer.get("suffix", "")), suffix)
            _put(write, instance, lines(answer))
        if not follow:
            return
        time.sleep(PERIOD)


def lines(answer: dict[str, Any]) -> str:
    """In the form of hosts(5). What is no address or no name is left out: root's files are no place for surprises."""
    found = []
    for item in answer.get("hosts", []):
        with contextlib.suppress(ValueError):
            address = ip_address(item["address"])
            if is_domain(item["name"], DOMAIN_MAX):
                found.append(f"{address} {item['name']}\n")
    return "".join(found)


def _check_suffix(found: str, wanted: str | None) -> None:
    if found == wanted or is_private(found):
        return
    known = ", ".join(f"NAME.{end}" for end in PRIVATE_SUFFIXES)
    fail(
        f"the realm's names end in .{found}, which may be others': its administrators could stand in for them here",
        f"if you want that, say --suffix {found}; {known} mostly need no word",
        Exit.USAGE,
    )


# ---- the file --------------------------------------------------------------------------------------------------------


def _put(path: Path, instance: str, text: str) -> None:
    """Our part of the file becomes `text`; everything else stays as it is."""
    try:
        before = path.read_text() if path.exists() else ""
        after = replaced(before, instance, text)
        if after != before:
            _write(path, after)
            say(f"{path}: {text.count(chr(10))} names")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        fail(f"{path}: {error}", "it was left as it is")


def replaced(before: str, instance: str, text: str) -> str:
    """`before` with our part replaced, or put at its end; an empty one goes. Raises ValueError for broken marks."""
    begin, end = (f"# veilnet {instance}: {word}\n" for word in ("begin, do not edit", "end"))
    if before and not before.endswith("\n"):
        before += "\n"
    marks = before.count(begin), before.count(end)
    if marks not in {(0, 0), (1, 1)} or (marks == (1, 1) and before.index(begin) > before.index(end)):
        raise ValueError(f"the marks {begin.strip()!r} and {end.strip()!r} are not there once each, in this order")
    if marks == (1, 1):
        head, _, rest = before.partition(begin)
        tail = rest.partition(end)[2]
    else:
        head, tail = before, ""
    return head + (begin + text + end if text else "") + tail


def _write(path: Path, text: str) -> None:
    """At once where it can be (a file that a container has mounted can't be replaced)."""
    path = path.resolve()
    beside = path.with_name(f".{path.name}.veilnet")
    try:
        beside.write_text(text)
        if path.exists():
            shutil.copystat(path, beside)
            os.chown(beside, path.stat().st_uid, path.stat().st_gid)
        else:
            beside.chmod(0o644)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        if error.errno != errno.EBUSY:
            raise OSError(error.errno, f"can't be written: {error.strerror}") from error
        path.write_text(text)
