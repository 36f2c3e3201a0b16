# SPDX-License-Identifier: Apache-2.0
"""The transport against a server that answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from veilnet.client import transport
from veilnet.client.transport import ApiProblem, Transport, Unreachable

Answer = tuple[int, dict[str, str], str]
HANG_UP: Answer = (0, {}, "")


class Server(ThreadingHTTPServer):
    answers: list[Answer]
    seen: list[tuple[str, str, dict[str, str], str]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.server.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        status, headers, text = self.server.answers.pop(0)
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(*answers: Answer) -> Iterator[tuple[Transport, Server]]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.answers, server.seen = list(answers), []
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with Transport(f"http://127.0.0.1:{server.server_port}", "secret", tls=False) as client:
                yield client, server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "AGAIN", 0.01)


def test_a_call_and_its_parts() -> None:
    with serving((200, {}, '{"ok": true}')) as (client, server):
        assert client.call("GET", "/x", query={"limit": 5, "cursor": None}, headers={"If-Match": None}) == {"ok": True}
        verb, path, headers, _ = server.seen[0]
        assert (verb, path, headers["authorization"]) == ("GET", "/x?limit=5", "Bearer secret")
        assert "if-match" not in headers


def test_a_post_repeats_under_one_key_after_a_lost_answer() -> None:
    with serving(HANG_UP, (201, {}, "{}")) as (client, server):
        client.call("POST", "/x", body={"a": 1})
        keys = {headers["idempotency-key"] for _, _, headers, _ in server.seen}
        assert len(server.seen) == 2 and len(keys) == 1 and len(keys.pop()) == 32
        assert {body for *_, body in server.seen} == {json.dumps({"a": 1}, separators=(",", ":"))}


def test_a_delete_is_not_repeated_after_a_lost_answer() -> None:
    with serving(HANG_UP, (204, {}, "")) as (client, server):
        with pytest.raises(Unreachable):
            client.call("DELETE", "/x")
        assert len(server.seen) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_waits_as_long_as_it_is_asked_to(status: int) -> None:
    with serving((status, {"Retry-After": "0"}, ""), (200, {}, "7")) as (client, server):
        assert client.call("DELETE", "/x") == 7
        assert len(server.seen) == 2


def test_does_not_wait_for_ever() -> None:
    with serving((429, {"Retry-After": "3600"}, "")) as (client, _), pytest.raises(ApiProblem, match="429"):
        client.call("GET", "/x")
    with serving(*[(503, {"Retry-After": "0"}, "")] * 4) as (client, _), pytest.raises(ApiProblem, match="503"):
        client.call("GET", "/x")


def test_a_problem_and_something_else() -> None:
    text = json.dumps(
        {
            "code": "invalid",
            "title": "T",
            "detail": "D",
            "errors": [{"pointer": "/a", "detail": "wrong"}],
            "trace_id": "r",
        }
    )
    with serving((422, {}, text), (404, {}, "<html>")) as (client, _):
        with pytest.raises(ApiProblem) as found:
            client.call("POST", "/x", body={})
        assert (found.value.code, found.value.trace_id, str(found.value)) == ("invalid", "r", "T: D (/a: wrong)")
        with pytest.raises(ApiProblem, match="is this a VeilNet Master"):
            client.call("GET", "/x")


def test_a_stream_and_one_that_is_refused() -> None:
    refused = json.dumps({"code": "forbidden", "title": "T", "detail": "D"})
    with serving((200, {}, "id: 1\ndata: x\n\n"), (403, {}, refused)) as (client, _):
        assert list(client.stream("GET", "/events")) == ["id: 1", "data: x", ""]
        with pytest.raises(ApiProblem, match="T: D"):
            list(client.stream("GET", "/events"))


def test_path_parameters_can_not_leave_their_place() -> None:
    assert Transport.quoted("../a?b#c d") == "..%2Fa%3Fb%23c%20d"


def test_nobody_listens() -> None:
    with Transport("http://127.0.0.1:1", None, tls=False) as client, pytest.raises(Unreachable, match="refused"):
        client.call("GET", "/x")
