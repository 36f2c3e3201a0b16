# SPDX-License-Identifier: Apache-2.0
"""A Master on loopback with something in it, for requests that are made up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn

from tests.api.conftest import Identity
from tests.cli.conftest import free_port
from tests.patience import PATIENCE
from veilnet.api.app import create_app
from veilnet.api.bootstrap import init_master
from veilnet.api.events import service
from veilnet.api.settings import load_settings
from veilnet.enrolment_token import read_token

NODES = 20


@dataclass(frozen=True)
class Fuzzed:
    url: str
    headers: dict[str, str]
    realm: str
    """Id of the one that has nodes; its name may be changed on the way."""


def _enrol_some(client: httpx.Client) -> None:
    """Nodes for what is made up to meet; a few of them will be revoked and deleted on the way."""
    body = {"realm": "lab", "roles": ["guardian"], "usage_limit": None}
    token = read_token(client.post("/api/v1/enrolment-tokens", json=body).json()["token"])
    for number in range(NODES):
        identity, now = Identity(), int(time.time())
        request = {
            "token_id": token.id,
            "secret": token.secret,
            "request": identity.claim(token, name=f"n{number}", now=now),
            "descriptor": identity.descriptor(now=now),
        }
        assert client.post("/api/v1/enrolments", json=request).status_code == 201


@contextmanager
def fuzzed_master(folder: Path) -> Iterator[Fuzzed]:
    service.LIFETIME_SECONDS = 0.0  # schemathesis reads every answer to its end
    port = free_port()
    token = init_master(folder / "master", f"http://127.0.0.1:{port}")
    app = create_app(load_settings(folder / "master"), lambda: int(time.time()))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    headers = {"Authorization": f"Bearer {token.token}"}
    try:
        while not server.started:
            assert thread.is_alive(), "the Master did not start"
            time.sleep(0.02)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=PATIENCE) as client:
            made = client.post("/api/v1/realms", json={"name": "lab"})
            assert made.status_code == 201
            _enrol_some(client)
        yield Fuzzed(f"http://127.0.0.1:{port}", headers, made.json()["id"])
    finally:
        server.should_exit = True
        thread.join()
