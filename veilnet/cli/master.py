# SPDX-License-Identifier: Apache-2.0
"""`veilnet master`: make a Master, serve it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from veilnet.cli.output import Exit, fail, print_plain, say
from veilnet.files import private_directory, write_private

app = typer.Typer(help="Make and run a Master.", no_args_is_help=True)

StateDir = Annotated[Path, typer.Option("--state-dir", help="Keys, certificate and database of the Master.")]
_DEFAULT_DIR = Path("/var/lib/veilnet/master")


@app.command()
def init(
    url: Annotated[str, typer.Option("--url", help="How nodes reach this Master, e.g. https://192.0.2.1:8443.")],
    state_dir: StateDir = _DEFAULT_DIR,
    admin_token_file: Annotated[
        Path | None, typer.Option("--admin-token-file", help="Write the token here (0600) instead of showing it.")
    ] = None,
) -> None:
    """Make state directory, TLS certificate, database and the first administrator's token (shown once)."""
    from veilnet.api.bootstrap import init_master  # noqa: PLC0415 - the API's packages load slowly
    from veilnet.api.settings import SetupError  # noqa: PLC0415

    try:
        text = init_master(state_dir, url).encode()
    except SetupError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", "choose a --state-dir that this user can write", Exit.NOT_PERMITTED)
    say(f"Master made in {state_dir}. Back this directory up: it holds the realms' CA keys.")
    if admin_token_file is not None:
        private_directory(admin_token_file.parent)
        write_private(admin_token_file, text.encode() + b"\n")
        say(f"Administrator's token written to {admin_token_file}.")
    else:
        say("Administrator's token, shown this once; keep it in ~/.config/veilnet/admin-token (mode 0600):")
        print_plain(text)
    say(f"Next: veilnet master serve --state-dir {state_dir}")


@app.command()
def serve(
    state_dir: StateDir = _DEFAULT_DIR,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - TLS is on
    port: Annotated[int | None, typer.Option("--port", help="Default: the port of the Master's URL.")] = None,
    plain_http: Annotated[bool, typer.Option("--plain-http", help="No TLS; loopback only.")] = False,
) -> None:
    """Serve the REST API and the nodes' channels, with TLS, until told to stop."""
    from veilnet.api.bootstrap import Listen, serve_master  # noqa: PLC0415
    from veilnet.api.settings import SetupError, load_settings  # noqa: PLC0415

    try:
        parts = urlsplit(load_settings(state_dir).public_url)
        default = parts.port or (443 if parts.scheme == "https" else 80)
        serve_master(state_dir, Listen(host, port or default, plain_http))
    except SetupError as error:
        fail(str(error))
