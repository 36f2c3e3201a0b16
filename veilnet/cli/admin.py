# SPDX-License-Identifier: Apache-2.0
"""The administrator's connection to the Master: credential, pinned TLS, problems turned into errors to act on."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import httpx
import typer

from veilnet.admin_token import AdminTokenText, read_admin_token
from veilnet.cli.output import Exit, fail
from veilnet.cli.secret_input import read_secret
from veilnet.enrolment_token import TokenTextError
from veilnet.tls_pin import PinError, fetch_certificate, pinned_context, system_context

VARIABLE: Final = "VEILNET_ADMIN_TOKEN"
TOKEN_FILE: Final = Path("~/.config/veilnet/admin-token")
TIMEOUT: Final = 30.0

AdminToken = Annotated[
    str | None,
    typer.Option(
        "--admin-token", metavar="@FILE|-", help=f"Administrator's token; else ${VARIABLE}, else {TOKEN_FILE}."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Everything, as JSON.")]
Realm = Annotated[str | None, typer.Option("--realm", help="Name or id; not needed while there is only one.")]


class AdminClient:
    def __init__(self, token: AdminTokenText) -> None:
        self._url = token.url
        self._headers = {"Authorization": f"Bearer {token.token}"}
        self._tls = _tls(token)

    def call(self, method: str, path: str, body: Any = None, params: dict[str, str] | None = None) -> Any:
        try:
            with httpx.Client(verify=self._tls, timeout=TIMEOUT, trust_env=False) as client:
                url = f"{self._url}/api/v1{path}"
                headers = self._headers if method in {"GET", "POST"} else {**self._headers, "If-Match": "*"}
                response = client.request(method, url, headers=headers, json=body, params=params)
        except httpx.HTTPError as error:
            unreachable(self._url, error)
        if not response.is_success:
            _refused(response)
        return response.json() if response.content else None

    def items(self, path: str, params: dict[str, str] | None = None) -> list[dict[str, Any]]:
        """Every item of a list, page after page."""
        found: list[dict[str, Any]] = []
        query = {"limit": "500", **(params or {})}
        while True:
            page = self.call("GET", path, params=query)
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]

    def realm(self, name: str | None) -> str:
        """The realm that was asked for, or the only one."""
        if name is not None:
            return name
        names = [str(realm["name"]) for realm in self.items("/realms")]
        if len(names) == 1:
            return names[0]
        return fail(f"which realm? The Master has: {', '.join(names) or 'none'}", "give --realm NAME", Exit.USAGE)


def connect(source: str | None) -> AdminClient:
    text = read_secret(source, VARIABLE, "administrator's token")
    file = TOKEN_FILE.expanduser()
    if text is None and file.exists():
        text = read_secret(f"@{file}", VARIABLE, "administrator's token")
    if text is None:
        fail(
            "no administrator's token",
            f"`veilnet master init` shows it once: keep it in {TOKEN_FILE} (mode 0600) or set {VARIABLE}",
            Exit.NOT_PERMITTED,
        )
    try:
        return AdminClient(read_admin_token(text))
    except TokenTextError as error:
        fail(str(error), "copy the whole line that `veilnet master init` showed", Exit.USAGE)


def _tls(token: AdminTokenText) -> ssl.SSLContext:
    if token.tls is None:
        return system_context()
    try:
        return pinned_context(fetch_certificate(token.url, token.tls))
    except PinError as error:
        fail(str(error), "check the address; do not go on before you know why", Exit.UNREACHABLE)
    except OSError as error:
        unreachable(token.url, error)


def unreachable(url: str, error: Exception) -> NoReturn:
    detail = str(error) or type(error).__name__
    fail(f"Master {url} did not answer: {detail}", "is `veilnet master serve` running there?", Exit.UNREACHABLE)


def _refused(response: httpx.Response) -> NoReturn:
    try:
        problem = response.json()
        text = f"{problem['title']}: {problem['detail']}"
        wrong = "; ".join(f"{item['pointer']}: {item['detail']}" for item in problem["errors"])
    except (ValueError, KeyError, TypeError):
        fail(f"HTTP status {response.status_code} without a problem document", "is this a VeilNet Master?")
    code = Exit.NOT_PERMITTED if response.status_code in {401, 403} else Exit.FAILED
    fail(text, wrong, code)
