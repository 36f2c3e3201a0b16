# SPDX-License-Identifier: Apache-2.0
"""`veilnet token`: what new nodes are given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from veilnet.cli.admin import AdminToken, AsJson, Realm, connect, the_realm
from veilnet.cli.output import Exit, fail, print_json, print_plain, say
from veilnet.files import write_private
from veilnet.fleet import model

app = typer.Typer(help="Enrolment tokens.", no_args_is_help=True)


def seconds(text: str) -> int:
    """`90s`, `15m`, `24h`, `7d`."""
    try:
        return model.seconds(text)
    except ValueError as error:
        return fail(str(error), code=Exit.USAGE)


@app.command()
def create(  # noqa: PLR0917 - each is an option of the command line
    role: Annotated[list[str], typer.Option("--role", help="guardian or conflux; both may be given.")],
    realm: Realm = None,
    name: Annotated[str | None, typer.Option("--name", help="Name that the node gets (one-off tokens).")] = None,
    uses: Annotated[int, typer.Option("--uses", min=0, help="How many nodes it may enrol; 0: any number.")] = 1,
    expires: Annotated[str, typer.Option("--expires", help="For example 15m, 24h, 7d.")] = "24h",
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Its nodes are deleted when they have been away for half an hour.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the token here (0600).")] = None,
    admin_token: AdminToken = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and show it once, alone on standard output."""
    api = connect(admin_token)
    body: Any = {
        "realm": the_realm(api, realm),
        "roles": role,
        "node_name": name,
        "usage_limit": uses or None,
        "expires_in": seconds(expires),
        "ephemeral": ephemeral,
    }
    created: dict[str, Any] = {**api.create_enrolment_token(body)}
    say(f"token {created['id']} until {created['expires_at']}; whoever holds it can enrol, so treat it as a password")
    if output is not None:
        write_private(output, created.pop("token").encode() + b"\n")
    if as_json:
        print_json(created)
    elif output is None:
        print_plain(created["token"])
