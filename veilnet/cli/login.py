# SPDX-License-Identifier: Apache-2.0
"""`veilnet login`, `logout` and `whoami`: people, who prove themselves at an identity provider."""

from __future__ import annotations

import webbrowser
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from veilnet.admin_token import AdminTokenText, read_admin_token
from veilnet.cli.admin import SESSION_FILE, TOKEN_FILE, AdminToken, AsJson, connect, tls_context
from veilnet.cli.output import Exit, fail, print_json, print_rows, say
from veilnet.client.api import Api, LoginProvider, SessionCreate
from veilnet.client.transport import ApiProblem, Transport
from veilnet.enrolment_token import TokenTextError
from veilnet.files import private_directory, write_private
from veilnet.master_address import MasterAddress, read_address

ADDRESS_FILE: Final = Path("~/.config/veilnet/master")

Master = Annotated[
    str | None,
    typer.Option("--master", metavar="URL[#SHA256]", help="From `veilnet master address`; kept for the next time."),
]


def login(
    master: Master = None,
    provider: Annotated[str | None, typer.Option("--provider", help="Name, if the Master trusts several.")] = None,
    device: Annotated[bool, typer.Option("--device", help="Confirm a code on any other screen.")] = False,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page, or only show it.")] = True,
) -> None:
    """Sign in at your organisation's identity provider; the token stays in ~/.config/veilnet/session."""
    from veilnet.oidc.errors import OidcError  # noqa: PLC0415 - loads slowly

    address = _address(master)
    with Transport(address.url, None, tls_context(address.url, address.tls)) as connection:
        anonymous = Api(connection)
        chosen = _choose(anonymous.get_login_options()["providers"], provider)
        try:
            proof = _by_device(chosen) if device else _by_browser(chosen, open_page=browser)
        except OidcError as error:
            fail(f"{chosen['name']}: {error}", code=Exit.NOT_PERMITTED)
        session = anonymous.create_session(proof)
    token = AdminTokenText(url=address.url, token=session["token"], tls=address.tls)
    _keep(SESSION_FILE, token.encode())
    _keep(ADDRESS_FILE, address.text)
    until = datetime.fromisoformat(session["expires_at"]).astimezone()
    say(f"Signed in as {session['user_name']} until {until:%Y-%m-%d %H:%M}.")


def logout() -> None:
    """End the session at the Master and forget its token."""
    file = SESSION_FILE.expanduser()
    if not file.exists():
        fail("nobody is signed in here", "tokens are revoked with the API: POST /api/v1/api-tokens/{id}/revoke")
    api = connect(f"@{file}")
    try:
        api.revoke_own_token(str(api.who_am_i()["token_id"]))
    except ApiProblem as problem:
        if problem.status != 401:  # that one says that it was over already
            raise
    file.unlink()
    say("Signed out.")


def whoami(admin_token: AdminToken = None, as_json: AsJson = False) -> None:
    """Who the Master takes you for, and what you may do where."""
    found = connect(admin_token).who_am_i()
    if as_json:
        print_json(found)
        return
    say(f"{found['name']} ({found['kind']} {found['id']}, token {found['token_id']})")
    rows = [
        {"scope": name, "realms": "everywhere" if realms is None else ", ".join(realms)}
        for name, realms in sorted(found["scopes"].items())
    ]
    print_rows(rows, ("scope", "realms"), as_json=False)


def _address(given: str | None) -> MasterAddress:
    """From the option, else from the last login, else from the token that is there."""
    file = ADDRESS_FILE.expanduser()
    text = given or (file.read_text() if file.exists() else None)
    if text is None and (token := TOKEN_FILE.expanduser()).exists():
        try:
            known = read_admin_token(token.read_text())
        except TokenTextError:
            known = None
        if known is not None:
            return MasterAddress(known.url, known.tls)
    if text is None:
        fail(
            "which Master?",
            "give --master URL#SHA256 once; whoever runs the Master gets that line from `veilnet master address`",
            Exit.USAGE,
        )
    try:
        return read_address(text)
    except ValueError as error:
        fail(f"--master: {error}", code=Exit.USAGE)


def _choose(providers: list[LoginProvider], name: str | None) -> LoginProvider:
    if not providers:
        fail("this Master trusts no identity provider", "an owner configures one: docs/identity.md", Exit.NOT_PERMITTED)
    found = [item for item in providers if name is None or item["name"] == name]
    if len(found) == 1:
        return found[0]
    names = ", ".join(item["name"] for item in providers)
    return fail(f"which identity provider? The Master trusts: {names}", "give --provider NAME", Exit.USAGE)


def _by_browser(provider: LoginProvider, *, open_page: bool) -> SessionCreate:
    from veilnet.oidc import fetch, login as oidc  # noqa: PLC0415, I001
    from veilnet.oidc.pkce import Client  # noqa: PLC0415

    def show(url: str) -> None:
        say(f"Sign in here: {url}")
        if open_page:
            webbrowser.open(url)

    client = Client(provider["client_id"])
    if not provider["confidential"]:
        return {"provider_id": provider["id"], "id_token": oidc.by_browser(provider["issuer"], client, show)}
    attempt, code = oidc.code_by_browser(fetch.get_metadata(provider["issuer"]), client, show)
    return {
        "provider_id": provider["id"],
        "code": code,
        "code_verifier": attempt.verifier,
        "redirect_uri": attempt.redirect_uri,
        "nonce": attempt.nonce,
    }


def _by_device(provider: LoginProvider) -> SessionCreate:
    from veilnet.oidc import login as oidc  # noqa: PLC0415
    from veilnet.oidc.device import Waiting  # noqa: PLC0415
    from veilnet.oidc.pkce import Client  # noqa: PLC0415

    if provider["confidential"]:
        fail(f"{provider['name']} has a client secret, which the Master keeps", "log in without --device", Exit.USAGE)

    def show(waiting: Waiting) -> None:
        say(f"Open {waiting.verification_uri} on any screen and type {waiting.user_code}")
        if waiting.verification_uri_complete:
            say(f"or open {waiting.verification_uri_complete}")

    return {
        "provider_id": provider["id"],
        "id_token": oidc.by_device(provider["issuer"], Client(provider["client_id"]), show),
    }


def _keep(file: Path, text: str) -> None:
    path = file.expanduser()
    try:
        private_directory(path.parent)
        write_private(path, text.encode() + b"\n")
    except OSError as error:
        fail(f"{path}: {error.strerror}", "the session was made and ends by itself; make room and log in again")
