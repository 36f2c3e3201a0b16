# SPDX-License-Identifier: Apache-2.0
"""The administrator's calls to a lab's Master, made from within its namespace without a process for each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from veilnet.cli.admin import transport
from veilnet.cli.output import CliError
from veilnet.client.transport import ApiProblem, Transport, Unreachable
from veilnet.files import write_private
from veilnet.lab.enter import enter
from veilnet.lab.journal import LabError
from veilnet.lab.topology import Node

PARALLEL = 4
TOKEN_SECONDS = 86400


class Administrator:
    """Threads that live in the Master's namespace. Raises LabError for what the Master refuses."""

    def __init__(self, namespace: Path, admin_token: Path) -> None:
        self._pool = ThreadPoolExecutor(PARALLEL, initializer=enter, initargs=(namespace,))
        self._token = admin_token
        self._client: Transport | None = None

    def __enter__(self) -> Administrator:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        if self._client is not None:
            self._client.close()

    def make_realm(self, name: str, ipv4: str, min_guardians: int) -> None:
        self.call("POST", "/realms", {"name": name, "ipv4_range": ipv4, "settings": {"min_guardians": min_guardians}})

    def make_tokens(self, realm: str, wanted: dict[Path, Node]) -> None:
        """A one-off token for each node, in a file (0600)."""

        def make(path: Path, node: Node) -> None:
            body = {"realm": realm, "roles": [node.role], "node_name": node.name, "usage_limit": 1}
            made = self._request("POST", "/enrolment-tokens", {**body, "expires_in": TOKEN_SECONDS})
            write_private(path, made["token"].encode() + b"\n")

        self._connected()
        try:
            list(self._pool.map(make, wanted.keys(), wanted.values()))
        except (ApiProblem, Unreachable) as error:
            raise LabError(f"Master: {error}") from error

    def make_edges(self, realm: str, edges: tuple[tuple[str, str], ...]) -> None:
        """These edges and no other."""
        self.call("PUT", f"/realms/{realm}/edges", {"edges": [{"a": first, "b": second} for first, second in edges]})

    def _connected(self) -> None:
        if self._client is None:
            try:
                self._client = self._pool.submit(transport, f"@{self._token}").result()
            except CliError as error:
                raise LabError(f"Master: {error}") from error

    def _request(self, method: str, path: str, body: Any) -> Any:
        assert self._client
        headers = {} if method in {"GET", "POST"} else {"If-Match": "*"}
        return self._client.call(method, f"/api/v1{path}", headers=headers, body=body)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """JSON of the answer of a route below /api/v1."""
        self._connected()
        try:
            return self._pool.submit(self._request, method, path, body).result()
        except (ApiProblem, Unreachable) as error:
            raise LabError(f"Master: {error}") from error
