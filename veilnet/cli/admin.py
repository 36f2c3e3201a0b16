# SPDX-License-Identifier: Apache-2.0
"""The administrator's connection to the Master: credential and pinned TLS for the generated client."""

from __future__ import annotations

import ssl
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from veilnet.admin_token import AdminTokenText, read_admin_token
from veilnet.cli.output import CliError, Exit, fail
from veilnet.cli.secret_input import read_secret
from veilnet.client.api import Api
from veilnet.client.paging import every
from veilnet.client.transport import ApiProblem, Transport, Unreachable
from veilnet.enrolment_token import TokenTextError
from veilnet.tls_pin import PinError, fetch_certificate, pinned_context, system_context

VARIABLE: Final = "VEILNET_ADMIN_TOKEN"
TOKEN_FILE: Final = Path("~/.config/veilnet/admin-token")
SESSION_FILE: Final = Path("~/.config/veilnet/session")
"""What `veilnet login` got; the token file beside it stays as it is, and counts again after `veilnet logout`."""

AdminToken = Annotated[
    str | None,
    typer.Option(
        "--admin-token", metavar="@FILE|-", help=f"Administrator's token; else ${VARIABLE}, else {TOKEN_FILE}."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Everything, as JSON.")]
Realm = Annotated[str | None, typer.Option("--realm", help="Name or id; not needed while there is only one.")]

_open: Final = ExitStack()


def connect(source: str | None) -> Api:
    """The Master's API with the administrator's credential, until the command ends. Raises CliError."""
    connection = transport(source)
    _open.callback(connection.close)
    return Api(connection)


def disconnect() -> None:
    """Close what `connect` opened: the command has ended."""
    _open.close()


def transport(source: str | None) -> Transport:
    """The same connection; the caller closes it."""
    token = _token(source)
    return Transport(token.url, token.token, tls_context(token.url, token.tls))


def the_realm(api: Api, name: str | None) -> str:
    """The realm that was asked for, or the only one."""
    if name is not None:
        return name
    names = [str(realm["name"]) for realm in every(api.list_realms)]
    if len(names) == 1:
        return names[0]
    return fail(f"which realm? The Master has: {', '.join(names) or 'none'}", "give --realm NAME", Exit.USAGE)


def explained(error: ApiProblem | Unreachable) -> CliError:
    """What the Master's refusal or silence means at a terminal."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        remedy = "give the address with its fingerprint, as `veilnet master address` shows it"
        return CliError(f"no authority of this host signed the certificate of {error}", remedy, Exit.UNREACHABLE)
    if isinstance(error, Unreachable):
        return CliError(f"no answer from {error}", "is `veilnet master serve` running there?", Exit.UNREACHABLE)
    wrong = "; ".join(f"{item['pointer']}: {item['detail']}" for item in error.errors)
    code = Exit.NOT_PERMITTED if error.status in {401, 403} else Exit.FAILED
    return CliError(f"{error.title}: {error.detail}", wrong, code)


def _token(source: str | None) -> AdminTokenText:
    text = read_secret(source, VARIABLE, "administrator's token")
    for file in (SESSION_FILE.expanduser(), TOKEN_FILE.expanduser()):
        if text is None and file.exists():
            text = read_secret(f"@{file}", VARIABLE, "administrator's token")
    if text is None:
        fail(
            "no administrator's token",
            f"`veilnet login`; or keep the one that `veilnet master init` showed in {TOKEN_FILE}, or set {VARIABLE}",
            Exit.NOT_PERMITTED,
        )
    try:
        return read_admin_token(text)
    except TokenTextError as error:
        fail(str(error), "copy the whole line that `veilnet master init` showed", Exit.USAGE)


def tls_context(url: str, fingerprint: str | None) -> ssl.SSLContext:
    """Trust in the one pinned certificate, or in the system's authorities. Raises CliError."""
    if fingerprint is None:
        return system_context()
    try:
        return pinned_context(fetch_certificate(url, fingerprint))
    except PinError as error:
        fail(str(error), "check the address; do not go on before you know why", Exit.UNREACHABLE)
    except OSError as error:
        _unreachable(url, error)


def _unreachable(url: str, error: Exception) -> NoReturn:
    raise explained(Unreachable(f"{url}: {error or type(error).__name__}"))
