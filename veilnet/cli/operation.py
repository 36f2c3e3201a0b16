# SPDX-License-Identifier: Apache-2.0
"""A command for an operation of the API, made from the generated client: its path, filters and body become arguments
and options, so that a new operation needs no code here."""

from __future__ import annotations

import inspect
import re
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

import typer
import yaml

from veilnet.cli.admin import AdminToken, AsJson, connect
from veilnet.cli.output import Exit, fail, print_json, print_plain, print_rows, say
from veilnet.cli.secret_input import read_secret
from veilnet.client.api import Api, GrantBody
from veilnet.client.paging import every
from veilnet.files import write_private

PAGED: Final = {"limit", "cursor"}
HIDDEN: Final = {"self", "body", "fields", "if_none_match", "if_match", "idempotency_key", *PAGED}
SECRETS: Final = ("token", "secret", "client_secret")
"""Fields that come in as @FILE or - only, and go out alone on standard output, or to a file of mode 0600."""
ID: Final = re.compile(r"[a-z]{2,4}_[0-9a-z]{20,}")
POLL: Final = 0.5

Body = Annotated[Path | None, typer.Option("--body", help="The request's body as YAML or JSON; options go before it.")]
Unset = Annotated[list[str] | None, typer.Option("--unset", help="Field that goes back to its default.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write what is shown once here (0600).")]
Wait = Annotated[bool, typer.Option("--wait", help="Until the operation has ended; 1 if it failed.")]
_EXTRA: Final = {"body_file": Body, "unset": Unset, "output": Output, "wait": Wait}


def make_command(name: str, columns: tuple[str, ...], lister: str | None = None) -> Callable[..., None]:
    """The command of Api's method `name`; `lister` names the list in which a row is found by its name."""
    operation = getattr(Api, name)
    hints = get_type_hints(operation)
    shape = inspect.signature(operation)
    fields = _body_fields(hints["body"]) if "body" in hints else {}
    paged = shape.parameters.keys() >= PAGED

    def command(**given: Any) -> None:
        api = connect(given.pop("admin_token"))
        as_json, extra = given.pop("as_json"), {key: given.pop(key, None) for key in _EXTRA}
        body = {key: given.pop(f"body_{key}", None) for key in fields}
        path = [_row_id(api, lister, key, given.pop(key)) for key in _path(shape)]
        call = getattr(api, name)
        if paged:
            print_rows(list(every(call, *path, **given)), columns, as_json=as_json)
            return
        if "body" in hints:
            given["body"] = _body(fields, body, extra)
        if "if_match" in shape.parameters:
            given["if_match"] = "*"
        _show(api, call(*path, **given), columns, extra, as_json=as_json)

    command.__doc__ = inspect.getdoc(operation)
    parameters = [*_arguments(shape), *_filters(shape, hints), *_body_options(fields), *_extras(shape, hints)]
    vars(command)["__signature__"] = inspect.Signature(parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


# ---- what comes in ---------------------------------------------------------------------------------------------------


def _path(shape: inspect.Signature) -> list[str]:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [key for key, found in shape.parameters.items() if found.kind is kind and key not in HIDDEN]


def _arguments(shape: inspect.Signature) -> Iterator[inspect.Parameter]:
    for key in _path(shape):
        yield _parameter(key, str, inspect.Parameter.empty)


def _filters(shape: inspect.Signature, hints: dict[str, Any]) -> Iterator[inspect.Parameter]:
    for key, found in shape.parameters.items():
        if found.kind is inspect.Parameter.KEYWORD_ONLY and key not in HIDDEN:
            kind: Any = _plain(hints[key]) or str
            needed = found.default is inspect.Parameter.empty
            option = typer.Option(f"--{key.replace('_', '-')}")
            hint: Any = Annotated[kind if needed else kind | None, option]
            yield _parameter(key, hint, inspect.Parameter.empty if needed else None)


def _body_options(fields: dict[str, Any]) -> Iterator[inspect.Parameter]:
    for key, hint in fields.items():
        kind = _plain(hint)
        option = f"--{key.replace('_', '-')}"
        if key == "grants":
            yield _parameter(
                "body_grants", Annotated[list[str] | None, typer.Option("--grant", metavar="ROLE[@REALM-ID]")], None
            )
        elif key in SECRETS:
            yield _parameter(f"body_{key}", Annotated[str | None, typer.Option(option, metavar="@FILE|-")], None)
        elif kind is bool:
            both = f"{option}/--no-{key.replace('_', '-')}"
            yield _parameter(f"body_{key}", Annotated[bool | None, typer.Option(both)], None)
        elif kind is not None:
            yield _parameter(f"body_{key}", Annotated[kind | None, typer.Option(option)], None)


def _extras(shape: inspect.Signature, hints: dict[str, Any]) -> Iterator[inspect.Parameter]:
    answer = hints["return"]
    known = get_type_hints(answer) if isinstance(answer, type) and answer is not type(None) else {}
    if "body" in shape.parameters:
        yield _parameter("body_file", Body, None)
        yield _parameter("unset", Unset, None)
    if set(SECRETS) & known.keys():
        yield _parameter("output", Output, None)
    if answer is get_type_hints(Api.get_operation)["return"]:
        yield _parameter("wait", Wait, False)
    yield _parameter("admin_token", AdminToken, None)
    yield _parameter("as_json", AsJson, False)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _body_fields(kind: Any) -> dict[str, Any]:
    if get_origin(kind) in {Union, types.UnionType}:  # a body that may be left out
        kind = next(part for part in get_args(kind) if part is not type(None))
    return get_type_hints(kind, include_extras=True)


def _plain(hint: Any) -> Any:
    """str, int, bool or list[str] of what an option can carry, else None."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is NotRequired:
        return _plain(parts[0])
    if origin in {Union, types.UnionType}:
        kinds = {_plain(part) for part in parts if part is not type(None)}
        return kinds.pop() if len(kinds) == 1 else None
    if origin is Literal:
        return str
    if origin is list:
        return list[str] if _plain(parts[0]) is str else None
    return hint if hint in {str, int, bool} else None


def _body(fields: dict[str, Any], given: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    found = _read_body(extra["body_file"])
    found |= dict.fromkeys(extra["unset"] or ())
    for key, value in given.items():
        if key in SECRETS:
            value = read_secret(value, f"VEILNET_{key.upper()}", key.replace("_", " "))  # noqa: PLW2901 - read, now
        if value is not None and value != []:
            found[key] = [_grant(text) for text in value] if key == "grants" else value
    missing = [key for key, hint in fields.items() if get_origin(hint) is not NotRequired and key not in found]
    if missing:
        names = ", ".join(f"--{key.replace('_', '-')}" for key in missing)
        fail(f"missing: {names}", "give the option, or --body FILE with this field", Exit.USAGE)
    return found


def _read_body(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        text = typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text(encoding="utf-8")
        found = yaml.safe_load(text)
    except OSError as error:
        fail(f"{file}: {error.strerror}", code=Exit.USAGE)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        fail(f"{file} is not YAML: {error}", code=Exit.USAGE)
    return found if isinstance(found, dict) else fail(f"{file}: not an object", code=Exit.USAGE)


def _grant(text: str) -> GrantBody:
    role, _, realm = text.partition("@")
    made: Any = {"role": role, "realm_id": realm or None}
    found: GrantBody = made
    return found


def _row_id(api: Api, lister: str | None, key: str, value: str) -> str:
    """The id of a row that was named; ids, and what has no list, as given."""
    if lister is None or key == "realm" or ID.fullmatch(value):
        return value
    found = [row["id"] for row in every(getattr(api, lister)) if value == row.get("name") and not row.get("revoked_at")]
    if len(found) > 1:
        fail(f"{len(found)} have the name {value}", "give the id", Exit.USAGE)
    return str(found[0]) if found else value


# ---- what goes out ---------------------------------------------------------------------------------------------------


def _show(api: Api, answer: Any, columns: tuple[str, ...], extra: dict[str, Any], *, as_json: bool) -> None:
    if answer is None:
        return
    if isinstance(answer, Iterator):
        for line in answer:
            print_plain(line)
        return
    if extra["wait"]:
        answer = _ended(api, answer)
    secret = next((answer[key] for key in SECRETS if isinstance(answer, dict) and key in answer), None)
    if secret is not None:
        _show_once(answer, secret, extra["output"], as_json=as_json)
    elif as_json or not set(columns) <= answer.keys():
        print_json(answer)
    else:
        print_rows([answer], columns, as_json=False)
    if answer.get("state") == "failed" and extra["wait"]:
        fail(f"operation {answer['id']} failed: {answer['error']}")


def _show_once(answer: dict[str, Any], secret: str, output: Path | None, *, as_json: bool) -> None:
    say(f"{answer['id']}: shown this once; whoever holds it can use it, so treat it as a password")
    if output is not None:
        write_private(output, secret.encode() + b"\n")
        answer = {key: value for key, value in answer.items() if key not in SECRETS}
    if as_json:
        print_json(answer)
    elif output is None:
        print_plain(secret)


def _ended(api: Api, operation: Any) -> Any:
    while operation["state"] == "running":
        time.sleep(POLL)
        operation = api.get_operation(operation["id"])
    return operation
