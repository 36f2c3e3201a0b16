# SPDX-License-Identifier: Apache-2.0
"""`veilnet plan`, `apply`, `destroy`: a realm as a file describes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilnet.cli.admin import AdminToken, AsJson, connect
from veilnet.cli.output import CliError, Exit, fail, print_json, print_plain, say
from veilnet.client.transport import Unreachable
from veilnet.fleet import actual, model
from veilnet.fleet import apply as carrying_out
from veilnet.fleet.plan import Action, Plan, Step, plan_teardown
from veilnet.fleet.plan import plan as make_plan

CHANGES: Final = 2
"""Exit code of `veilnet plan` when there is something to do."""
NAMED: Final = 10
"""Nodes that one line names."""

File = Annotated[Path, typer.Option("--file", "-f", help="The fleet file (docs/fleet.md); - is standard input.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
Prune = Annotated[bool, typer.Option("--prune", help="Revoke nodes of the realm that the file does not name.")]
TokensDir = Annotated[Path | None, typer.Option("--tokens-dir", help="Where each new token goes: NAME, mode 0600.")]


def plan(file: File, prune: Prune = False, admin_token: AdminToken = None, as_json: AsJson = False) -> None:
    """Show what `apply` would do. Exit code 0: nothing, 2: something, 1: it can't be done."""
    with _never_changes():
        fleet = _read(file)
        found = make_plan(fleet, actual.read_actual(connect(admin_token), fleet.realm), prune=prune)
    if as_json:
        print_json(asdict(found))
    else:
        print_plain(described(found))
    if found.blocked:
        raise typer.Exit(int(Exit.FAILED))
    raise typer.Exit(CHANGES if found.steps else 0)


def apply(  # noqa: PLR0917 - each is an option of the command line
    file: File,
    tokens_dir: TokensDir = None,
    prune: Prune = False,
    yes: Yes = False,
    admin_token: AdminToken = None,
    as_json: AsJson = False,
) -> None:
    """Make a realm what the file says: plan, ask, do. Doing it twice is the same as once."""
    fleet = _read(file)
    api = connect(admin_token)
    found = make_plan(fleet, actual.read_actual(api, fleet.realm), prune=prune)
    if found.blocked:
        fail("; ".join(found.blocked), "nothing was changed")
    if tokens_dir is None and any(step.action is Action.CREATE_TOKEN for step in found.steps):
        fail("nodes of the file need tokens", "say where to write them: --tokens-dir DIRECTORY", Exit.USAGE)
    _warn_of_lost(found, tokens_dir)
    _carry_out(api, found, tokens_dir, yes=yes, as_json=as_json)


def destroy(file: File, yes: Yes = False, admin_token: AdminToken = None, as_json: AsJson = False) -> None:
    """Revoke the file's nodes, their edges and their tokens. The realm stays, with its CA key and its policy."""
    fleet = _read(file)
    api = connect(admin_token)
    _carry_out(api, plan_teardown(fleet, actual.read_actual(api, fleet.realm)), None, yes=yes, as_json=as_json)


def described(plan: Plan) -> str:
    """A plan for people."""
    lines = [step.text for step in plan.steps]
    lines += _for_nodes(plan.waiting, "waiting for {} to enrol")
    lines += _for_nodes(plan.expired, "{} expired: see `veilnet node renew`")
    lines += _for_nodes(plan.pending, "waiting for the approval of {}: see `veilnet node approve`")
    lines += [f"can't be done: {text}" for text in plan.blocked]
    lines += plan.notes
    total = f"{len(plan.steps)} changes" if plan.steps else "nothing to do"
    return "\n".join([f"realm {plan.realm}: {total}", *(f"  {line}" for line in lines)])


def _for_nodes(names: tuple[str, ...], sentence: str) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return [sentence.format(", ".join(names[:NAMED]) + more)]


@contextmanager
def _never_changes() -> Iterator[None]:
    """A failure must not leave with the exit code that means changes: a script would go on to apply."""
    try:
        yield
    except CliError as error:
        raise CliError(str(error), error.remedy, Exit.FAILED if int(error.code) == CHANGES else error.code) from error


def _read(file: Path) -> model.Fleet:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        return model.parse(text, str(file))
    except model.FleetFileError as error:
        return fail(str(error), "docs/fleet.md has every word of the file", Exit.USAGE)
    except UnicodeDecodeError:
        return fail(f"{file}: not a text in UTF-8", code=Exit.USAGE)
    except OSError as error:
        return fail(f"{file}: {error.strerror}", code=Exit.USAGE)


def _warn_of_lost(plan: Plan, tokens_dir: Path | None) -> None:
    """A token is shown once: for a node that still waits, the file is all there is."""
    made = {step.subject for step in plan.steps}
    lost = [name for name in plan.waiting if tokens_dir and name not in made and not (tokens_dir / name).exists()]
    for line in _for_nodes(tuple(lost), f"no file in {tokens_dir} for the token of {{}}"):
        say(f"{line}: if it is lost, `veilnet token revoke` it and apply again")


def _carry_out(api: Any, plan: Plan, tokens_dir: Path | None, *, yes: bool, as_json: bool) -> None:
    say(described(plan))
    if plan.steps and not yes:
        _ask()
    outcome = carrying_out.apply(api, plan, tokens_dir, _report)
    if as_json:
        failed = outcome.failed and {**asdict(outcome.failed), "error": str(outcome.error)}
        print_json({**asdict(plan), "done": [asdict(step) for step in outcome.done], "failed": failed})
    if outcome.failed is not None:
        left = len(plan.steps) - len(outcome.done)
        what = f"{outcome.failed.text}: {outcome.error}"
        code = Exit.UNREACHABLE if isinstance(outcome.error, Unreachable) else Exit.FAILED
        fail(what, f"{len(outcome.done)} changes were made, {left} were not; `veilnet plan` shows what is left", code)


def _ask() -> None:
    if not sys.stdin.isatty():
        fail("nobody can be asked: standard input is no terminal", "say --yes", Exit.USAGE)
    typer.confirm("Do it?", abort=True, err=True)


def _report(step: Step) -> None:
    say(f"done: {step.text}")
