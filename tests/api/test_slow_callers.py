# SPDX-License-Identifier: Apache-2.0
"""Callers that hold connections open without saying anything, or without an end: they are cut off, others served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import pytest

from tests.api.test_channel import Running, running
from tests.patience import PATIENCE
from veilnet.api import body_limit
from veilnet.api.ops import connection

__all__ = ["running"]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HEAD = b"GET /livez HTTP/1.1\r\nHost: m\r\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(body_limit, "BODY_SECONDS", 0.5)


@contextlib.asynccontextmanager
async def connected(running: Running) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=running.context())
    try:
        yield reader, writer
    finally:
        writer.close()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What came until the Master closed the connection."""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            return await reader.read()
    return b""


async def drip(writer: asyncio.StreamWriter, piece: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("first", [b"", HEAD, HEAD + b"\r\n" + HEAD], ids=["nothing", "a head", "a second head"])
async def test_a_head_without_end_is_cut_off_and_others_are_served(running: Running, first: bytes) -> None:
    async with connected(running) as (reader, writer):
        writer.write(first)
        dripping = asyncio.create_task(drip(writer, b"a: b\r\n" if first else b""))
        assert (await running.call("GET", "/realms"))["items"]
        answers = await ended(reader)
        dripping.cancel()
    assert answers.count(b"HTTP/1.1 200 OK") == first.count(b"GET") // 2


async def test_a_head_that_grows_is_cut_off_before_its_time(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 2 * PATIENCE)
    async with connected(running) as (reader, writer):
        writer.write(HEAD)
        dripping = asyncio.create_task(drip(writer, b"a: " + b"b" * 32768 + b"\r\n"))
        assert await ended(reader) == b""
        dripping.cancel()


async def test_a_body_that_does_not_come_is_answered(running: Running) -> None:
    head = (
        f"POST /api/v1/realms HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer {running.admin.token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    )
    async with connected(running) as (reader, writer):
        writer.write(head.encode() + b'{"name"')
        dripping = asyncio.create_task(drip(writer, b" "))
        answer = await ended(reader)
        dripping.cancel()
    top, _, body = answer.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 408 ") and b"application/problem+json" in top
    assert json.loads(body)["code"] == "too-slow"
    assert [realm["name"] for realm in (await running.call("GET", "/realms"))["items"]] == ["lab"]


async def test_an_answer_may_take_as_long_as_it_likes(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event stream is a request whose answer does not end."""
    monkeypatch.setattr("veilnet.api.events.service.LIFETIME_SECONDS", 2 * PATIENCE)
    head = f"GET /api/v1/events HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer {running.admin.token}\r\n\r\n"
    async with connected(running) as (reader, writer):
        writer.write(head.encode())
        await reader.readuntil(b"\r\n\r\n")
        began = time.monotonic()
        while time.monotonic() - began < 3 * connection.HEAD_SECONDS:
            await asyncio.sleep(0.1)
        await running.call("POST", "/realms", {"name": "later"})
        async with asyncio.timeout(PATIENCE):
            while b"realm.created" not in (line := await reader.readline()):
                assert line, "closed"


async def test_requests_without_end_ahead_of_their_answers_are_cut_off(running: Running) -> None:
    """Each would wait in memory, some kilobytes for the twenty bytes that it costs its sender."""
    async with connected(running) as (reader, writer):
        writer.write((HEAD + b"\r\n") * (connection.PIPELINE_MAX // 2))
        for _ in range(connection.PIPELINE_MAX // 2):
            assert (await reader.readuntil(b"}")).count(b"HTTP/1.1 200 OK") == 1
        writer.write((HEAD + b"\r\n") * 1000)
        assert (await ended(reader)).count(b"HTTP/1.1 200 OK") < 1000
    assert (await running.call("GET", "/realms"))["items"]
