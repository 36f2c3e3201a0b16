# SPDX-License-Identifier: Apache-2.0
"""`veilnet master`: make a Master, serve it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from veilnet.cli.admin import AsJson
from veilnet.cli.output import Exit, fail, print_plain, print_rows, say
from veilnet.cli.secret_input import read_secret
from veilnet.files import private_directory, write_private
from veilnet.master_address import MasterAddress

if TYPE_CHECKING:  # the Master's own modules are loaded by the commands that need them
    from veilnet.api.storage.restored import Begun

app = typer.Typer(help="Make and run a Master.", no_args_is_help=True)
db_app = typer.Typer(help="The Master's database.", no_args_is_help=True)
app.add_typer(db_app, name="db")

StateDir = Annotated[Path, typer.Option("--state-dir", help="Keys, certificate and database of the Master.")]
_DEFAULT_DIR = Path("/var/lib/veilnet/master")
_DATABASE = "VEILNET_DATABASE_URL"


@app.command()
def init(
    url: Annotated[str, typer.Option("--url", help="How nodes reach this Master, e.g. https://192.0.2.1:8443.")],
    state_dir: StateDir = _DEFAULT_DIR,
    admin_token_file: Annotated[
        Path | None, typer.Option("--admin-token-file", help="Write the token here (0600) instead of showing it.")
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database", metavar="@FILE|-", help=f"postgresql://... of an empty database; else ${_DATABASE}."
        ),
    ] = None,
) -> None:
    """Make state directory, TLS certificate, database and the first administrator's token (shown once)."""
    from veilnet.api.bootstrap import init_master  # noqa: PLC0415 - the API's packages load slowly
    from veilnet.api.settings import SetupError  # noqa: PLC0415

    try:
        text = init_master(state_dir, url, read_secret(database, _DATABASE, "database URL")).encode()
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
    ops: Annotated[
        str, typer.Option("--ops", metavar="HOST:PORT|off", help="Health and metrics, without credentials.")
    ] = "127.0.0.1:9109",
) -> None:
    """Serve the REST API and the nodes' channels, with TLS, until told to stop."""
    from veilnet.api.bootstrap import Listen, serve_master  # noqa: PLC0415
    from veilnet.api.settings import SetupError, load_settings  # noqa: PLC0415

    try:
        parts = urlsplit(load_settings(state_dir).public_url)
        default = parts.port or (443 if parts.scheme == "https" else 80)
        serve_master(state_dir, Listen(host, port or default, plain_http, _ops(ops)))
    except SetupError as error:
        fail(str(error))


def _ops(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    if text == "off":
        return None
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        fail(f"--ops {text}: not HOST:PORT", "for example 127.0.0.1:9109, [::1]:9109, or off", Exit.USAGE)
    return host.strip("[]"), int(port)


@app.command()
def address(state_dir: StateDir = _DEFAULT_DIR) -> None:
    """Show what people give to `veilnet login`: the Master's URL and its certificate's fingerprint. Not a secret."""
    from veilnet.api.settings import load_settings  # noqa: PLC0415

    with _setup_errors():
        settings = load_settings(state_dir)
    print_plain(MasterAddress(settings.public_url, settings.tls_fingerprint).text)


@app.command("owner-token")
def owner_token(
    target: Annotated[Path, typer.Argument(help="New file, made with mode 0600.")], state_dir: StateDir = _DEFAULT_DIR
) -> None:
    """Make a token with the role owner when nobody has one any more; needs the Master's state directory."""
    from veilnet.api.bootstrap import make_owner_token  # noqa: PLC0415

    if target.exists():
        fail(f"{target} exists", "choose another name", Exit.USAGE)
    with _setup_errors():
        text = make_owner_token(state_dir).encode()
        write_private(target, text.encode() + b"\n")
    say(f"{target}: a token with the role owner. Revoke what is not used any more: `veilnet whoami` shows its id.")


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="New file, made with mode 0600.")], state_dir: StateDir = _DEFAULT_DIR
) -> None:
    """Copy database, CA keys and settings into one tar, while the Master runs."""
    from veilnet.api.storage.backup import back_up  # noqa: PLC0415

    with _setup_errors():
        back_up(state_dir, target)
    say(f"{target}: whoever reads it owns every realm of this Master. Keep it where only you do.")


@app.command()
def restore(
    source: Path,
    state_dir: StateDir = _DEFAULT_DIR,
    database_url: Annotated[
        str | None, typer.Option("--database-url", help="Another database than the backup's, without a password.")
    ] = None,
) -> None:
    """Make a Master again from a backup, in a directory that holds none."""
    from veilnet.api.storage.backup import restore as unpack  # noqa: PLC0415

    with _setup_errors():
        restored = unpack(source, state_dir, database_url)
    for line in what_to_redo(restored.begun, restored.made):
        say(line)
    say(f"Restored. Next: veilnet master serve --state-dir {restored.settings.state_dir}")


def what_to_redo(begun: Begun, made: int | None = None) -> Iterator[str]:
    """What no copy can know, for the person who restored it."""
    when = "the copy was made" if made is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(made))
    yield f"{begun.realms} realms with {begun.nodes} nodes are signed anew as soon as a Master runs; nodes take that."
    yield f"Whatever changed after {when} is undone. Do again, at once, what took rights away:"
    yield "  - nodes revoked since count again: `veilnet node revoke`; the same for API tokens, users, client secrets"
    yield "  - enrolment tokens used up or revoked since count again: `veilnet token revoke`"
    yield "  - policy, taints and edges are the old ones"
    yield "  - nodes enrolled since are unknown, others drop them: enrol them again"
    yield f"  - {begun.sessions} sessions were ended: people and programs sign in again"
    yield f"  - the audit goes on behind entry {begun.last_audit}: what you exported beyond is the only record of it"
    yield "  - a CA key made since is not in the copy: if nodes had learnt of one, they must all enrol again"


@db_app.command("restored")
def database_restored(
    state_dir: StateDir = _DEFAULT_DIR,
    above: Annotated[
        int,
        typer.Option("--above", help="Versions go on above this one, too: the highest that the log says nodes know."),
    ] = 0,
) -> None:
    """After the database alone was put back from an older copy (pg_restore, a snapshot of its disk): once."""
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    from veilnet.api.settings import load_settings  # noqa: PLC0415
    from veilnet.api.storage.restored import begin_again  # noqa: PLC0415

    with _setup_errors():
        try:
            begun = asyncio.run(begin_again(load_settings(state_dir), above))
        except SQLAlchemyError as error:
            fail(f"database: {type(error).__name__}: {str(error).splitlines()[0][:200]}", "see `master db doctor`")
    for line in what_to_redo(begun):
        say(line)


@db_app.command()
def doctor(state_dir: StateDir = _DEFAULT_DIR, as_json: AsJson = False) -> None:
    """Is what the Master keeps whole? Changes nothing; exit code 1 when something is not."""
    from veilnet.api.settings import load_settings  # noqa: PLC0415
    from veilnet.api.storage.doctor import examine  # noqa: PLC0415

    with _setup_errors():
        findings = asyncio.run(examine(load_settings(state_dir)))
    rows = [
        {"check": item.check, "state": "ok" if item.ok else "failed", "found": item.found, "remedy": item.remedy}
        for item in findings
    ]
    print_rows(rows, ("check", "state", "found", "remedy"), as_json=as_json)
    if not all(item.ok for item in findings):
        raise typer.Exit(int(Exit.FAILED))


@contextmanager
def _setup_errors() -> Iterator[None]:
    from veilnet.api.settings import SetupError  # noqa: PLC0415

    try:
        yield
    except SetupError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", "is there room, and may this user write there?", Exit.NOT_PERMITTED)
