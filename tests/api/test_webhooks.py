# SPDX-License-Identifier: Apache-2.0
"""Webhooks: what a receiver gets and can check, order, failures, rotation, replay, and where they must not lead."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Master
from tests.api.test_events import say
from tests.patience import PATIENCE
from veilnet.api.context import Context
from veilnet.api.db import write_session
from veilnet.api.platform.call import Call
from veilnet.api.webhooks import sender, service, signing
from veilnet.api.webhooks.models import Webhook
from veilnet.api.webhooks.repository import ProgressRepository
from veilnet.api.webhooks.targets import TargetRefused, checked_target, resolve


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        if status < 300:
            self.server.taken.append((headers, body))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Receiver(HTTPServer):
    statuses: list[int]
    taken: list[tuple[dict[str, str], bytes]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?x=1"

    def types(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.taken]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(("127.0.0.1", 0), Handler) as server:
        server.statuses, server.taken = [], []
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Master sends when the test says so."""

    @asynccontextmanager
    async def nothing(_: Context) -> AsyncIterator[None]:
        yield

    monkeypatch.setattr("veilnet.api.app.sending", nothing)


@pytest.fixture
async def local(master: Master) -> Master:
    """A Master that may send to this host."""
    settings = master.context.settings.model_copy(update={"webhooks_to_private_addresses": True})
    master.app.state.context = replace(master.context, settings=settings)
    return master


def check(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """As a receiver does it, by the specification's text."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(wanted, item.removeprefix("v1,")) for item in headers["webhook-signature"].split())


async def make(master: Master, receiver: Receiver, **changes: Any) -> dict[str, Any]:
    body = {"name": "siem", "url": receiver.url, "types": ["x.one", "x.two"], **changes}
    found: dict[str, Any] = await master.request("POST", "/webhooks", json=body, status=201)
    return found


async def test_events_are_delivered_signed_and_in_order(local: Master, receiver: Receiver) -> None:
    hook = await make(local, receiver)
    await say(local, "x.one", "x.other", "x.two")
    await sender.send_due(local.context)
    assert receiver.types() == ["x.one", "x.two"]
    for headers, body in receiver.taken:
        assert check(hook["secret"], headers, body)
        assert not check(hook["secret"], headers, body + b" ")
        assert headers["webhook-id"] == f"evt_{json.loads(body)['id']}"
        assert int(headers["webhook-timestamp"]) == local.clock.now
    shown = await local.request("GET", f"/webhooks/{hook['id']}")
    assert shown["failures"] == 0 and shown["last_status"] == 204 and "secret" not in shown
    await sender.send_due(local.context)
    assert len(receiver.taken) == 2


async def test_a_failure_holds_the_order_and_is_tried_again_later(local: Master, receiver: Receiver) -> None:
    hook = await make(local, receiver)
    receiver.statuses = [500, 500]
    await say(local, "x.one", "x.two")
    await sender.send_due(local.context)
    await sender.send_due(local.context)
    assert receiver.taken == [] and len(receiver.statuses) == 1, "sent again before its time"
    local.clock.now += sender.FIRST_WAIT
    await sender.send_due(local.context)
    shown = await local.request("GET", f"/webhooks/{hook['id']}")
    assert (shown["failures"], shown["last_status"], shown["last_error"]) == (2, 500, "status 500")
    local.clock.now += 2 * sender.FIRST_WAIT
    await sender.send_due(local.context)
    assert receiver.types() == ["x.one", "x.two"]


async def test_a_receiver_that_never_answers_is_given_up(local: Master, receiver: Receiver) -> None:
    hook = await make(local, receiver)
    receiver.statuses = [302] + [500] * 500
    await say(local, "x.one")
    for _ in range(15):
        await sender.send_due(local.context)
        local.clock.now += 6 * 3600
    shown = await local.request("GET", f"/webhooks/{hook['id']}")
    assert shown["enabled"] is False and shown["failures"] == 13
    found = await local.change("PATCH", f"/webhooks/{hook['id']}", json={"enabled": True})
    assert found["failures"] == 0
    receiver.statuses = []
    await sender.send_due(local.context)
    assert receiver.types() == ["x.one"]


async def test_rotation_signs_with_both_secrets_for_a_day(local: Master, receiver: Receiver) -> None:
    hook = await make(local, receiver)
    fresh = await local.request("POST", f"/webhooks/{hook['id']}/rotate-secret")
    assert fresh["secret"] != hook["secret"]
    await say(local, "x.one")
    await sender.send_due(local.context)
    assert all(check(secret, *receiver.taken[0]) for secret in (hook["secret"], fresh["secret"]))
    local.clock.now += 86400
    await say(local, "x.one")
    await sender.send_due(local.context)
    assert check(fresh["secret"], *receiver.taken[1]) and not check(hook["secret"], *receiver.taken[1])


async def test_replay_and_test_delivery(local: Master, receiver: Receiver) -> None:
    hook = await make(local, receiver)
    await say(local, "x.one", "x.two")
    await sender.send_due(local.context)
    first = json.loads(receiver.taken[0][1])["id"]
    path = f"/webhooks/{hook['id']}"
    await local.request("POST", f"{path}/replay", json={"after_event_id": first - 1})
    await sender.send_due(local.context)
    assert receiver.types() == ["x.one", "x.two"] * 2
    await local.request("POST", f"{path}/replay", json={"after_event_id": 10**9}, status=410)
    assert (await local.request("POST", f"{path}/test"))["delivered"] is True
    assert receiver.types()[-1] == "webhook.test"
    receiver.statuses = [503]
    assert (await local.request("POST", f"{path}/test")) == {
        "delivered": False,
        "status": 503,
        "error": "status 503",
    }


async def test_the_sender_wakes_by_itself(local: Master, receiver: Receiver) -> None:
    await make(local, receiver)
    async with sender.sending(local.context), asyncio.timeout(PATIENCE):
        await say(local, "x.one")
        while receiver.types() != ["x.one"]:
            await asyncio.sleep(0.02)


async def test_only_one_replica_sends(local: Master, receiver: Receiver) -> None:
    await make(local, receiver)
    await say(local, *["x.one"] * 20)
    await asyncio.gather(*(sender.send_due(local.context) for _ in range(4)))
    assert len(receiver.taken) == 20


async def test_a_webhook_of_a_realm_gets_this_realms_events(local: Master, receiver: Receiver) -> None:
    one, two = await local.realm("one"), await local.realm("two")
    await make(local, receiver, realm="one")
    await say(local, "x.one", realm_id=two["id"])
    await say(local, "x.two", realm_id=one["id"])
    await say(local, "x.one")
    await sender.send_due(local.context)
    assert receiver.types() == ["x.two"]


async def test_delete(local: Master, receiver: Receiver) -> None:
    hook = await make(local, receiver)
    await local.change("DELETE", f"/webhooks/{hook['id']}", status=204)
    await local.request("GET", f"/webhooks/{hook['id']}", status=404)
    await say(local, "x.one")
    await sender.send_due(local.context)
    assert receiver.taken == []


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_delete_while_a_sender_notes_its_turn(
    local: Master, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite has one writer: there it can't come between."""
    hook, found = await make(local, receiver), service.visible_webhook
    now = local.clock.now

    async def then_leased(call: Call, webhook_id: str) -> Webhook:
        row = await found(call, webhook_id)
        async with write_session(local.context.engine, local.context.hub) as session:
            assert await ProgressRepository(session).lease(webhook_id, now, now + 60)
        return row

    monkeypatch.setattr(service, "visible_webhook", then_leased)
    headers = {**local.admin, "If-Match": "*"}
    await local.request("DELETE", f"/webhooks/{hook['id']}", headers=headers, status=204)


async def test_secrets_are_sealed_in_the_database(local: Master, receiver: Receiver, tmp_path: Path) -> None:
    hook = await make(local, receiver)
    raw = base64.b64decode(hook["secret"].removeprefix("whsec_"))
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("master.db*"))
    assert raw not in stored and hook["secret"].encode() not in stored
    assert (local.context.settings.seal_key).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "https://", "https://u:p@x/", "https://x/#f", "https://x:99999/", "javascript:1", "https://é/"],
)
async def test_urls_that_are_none(master: Master, url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        checked_target(url)
    await master.request("POST", "/webhooks", json={"name": "x", "url": url}, status=422)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://localhost/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[fe80::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://2130706433/",
        "http://192.0.2.1/",
        "https://no-such-host.invalid/",
    ],
)
async def test_the_masters_own_networks_are_out_of_reach(url: str) -> None:
    with pytest.raises(TargetRefused):
        await resolve(url, private=False)


async def test_a_public_address_is_connected_to_as_checked() -> None:
    found = await resolve("https://9.9.9.9:8443/a?b=c", private=False)
    assert (found.url, found.host) == ("https://9.9.9.9:8443/a?b=c", "9.9.9.9:8443")


def test_signature_of_the_specifications_example() -> None:
    """Standard Webhooks 1.0.0, "Verifying signatures": the example of its reference libraries."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    found = signing.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, [key])
    assert found["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
