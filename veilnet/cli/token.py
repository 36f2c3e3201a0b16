# SPDX-License-Identifier: Apache-2.0
"""`veilnet token`: what new nodes are given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from veilnet.cli.admin import AdminToken, AsJson, Realm, connect
from veilnet.cli.output import Exit, fail, print_json, print_plain, print_rows, say
from veilnet.files import write_private

app = typer.Typer(help="Enrolment tokens.", no_args_is_help=True)

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COLUMNS: Final = ("id", "roles", "node_name", "used", "usage_limit", "state", "expires_at")


def seconds(text: str) -> int:
    """`90s`, `15m`, `24h`, `7d`."""
    match = re.fullmatch(r"(\d{1,8})([smhd])", text)
    if match is None:
        fail(f"{text!r} is not a time", "write for example 90s, 15m, 24h or 7d", Exit.USAGE)
    return int(match[1]) * _UNITS[match[2]]


@app.command()
def create(  # noqa: PLR0917 - each is an option of the command line
    role: Annotated[list[str], typer.Option("--role", help="guardian or conflux; both may be given.")],
    realm: Realm = None,
    name: Annotated[str | None, typer.Option("--name", help="Name that the node gets (one-off tokens).")] = None,
    uses: Annotated[int, typer.Option("--uses", min=0, help="How many nodes it may enrol; 0: any number.")] = 1,
    expires: Annotated[str, typer.Option("--expires", help="For example 15m, 24h, 7d.")] = "24h",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the token here (0600).")] = None,
    admin_token: AdminToken = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and show it once, alone on standard output."""
    client = connect(admin_token)
    body = {
        "realm": client.realm(realm),
        "roles": role,
        "node_name": name,
        "usage_limit": uses or None,
        "expires_in": seconds(expires),
    }
    created = client.call("POST", "/enrolment-tokens", body)
    say(f"token {created['id']} until {created['expires_at']}; whoever holds it can enrol, so treat it as a password")
    if output is not None:
        write_private(output, created.pop("token").encode() + b"\n")
    if as_json:
        print_json(created)
    elif output is None:
        print_plain(created["token"])


@app.command("list")
def list_tokens(realm: Realm = None, admin_token: AdminToken = None, as_json: AsJson = False) -> None:
    """Tokens and how far they are used; never their secrets."""
    params = {} if realm is None else {"realm": realm}
    print_rows(connect(admin_token).items("/enrolment-tokens", params), _COLUMNS, as_json=as_json)


@app.command()
def revoke(token_id: str, admin_token: AdminToken = None) -> None:
    """Make a token useless. Nodes that it enrolled stay; see `veilnet node revoke`."""
    connect(admin_token).call("POST", f"/enrolment-tokens/{token_id}/revoke")
