# SPDX-License-Identifier: Apache-2.0
"""Sockets to the Master bear the mark, whoever makes them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from veilnet.keyd import master_socket
from veilnet.loader.routing import MARK

pytestmark = pytest.mark.root


def mark_of(made: socket.socket) -> int:
    return made.getsockopt(socket.SOL_SOCKET, socket.SO_MARK)


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def test_the_channel_s_socket() -> None:
    with listening() as server:
        made = asyncio.run(master_socket.connected(f"https://127.0.0.1:{server.getsockname()[1]}", MARK, 60))
        assert made is not None
        with made, server.accept()[0]:
            assert mark_of(made) == MARK


def test_without_a_mark_others_make_it() -> None:
    assert asyncio.run(master_socket.connected("https://127.0.0.1:1", 0, 5)) is None


def test_a_name_s_addresses_are_tried_in_turn() -> None:
    """`localhost` has ::1 first on most hosts; the server has 127.0.0.1 only."""
    with listening() as server:
        made = asyncio.run(master_socket.connected(f"http://localhost:{server.getsockname()[1]}", MARK, 60))
        assert made is not None
        made.close()


def test_nobody_there() -> None:
    with listening() as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(master_socket.connected(f"http://127.0.0.1:{port}", MARK, 60))


def test_single_requests() -> None:
    """Asked of the connection's own socket while the request is under way."""
    seen: list[int] = []

    async def request(port: int) -> int:
        async with (
            master_socket.client(ssl.create_default_context(), MARK, 60) as client,
            client.stream("GET", f"http://127.0.0.1:{port}/") as response,
        ):
            stream = response.extensions["network_stream"]
            seen.append(mark_of(stream.get_extra_info("socket")))
            await response.aread()
            return response.status_code

    with listening() as server:
        answering = threading.Thread(target=_answer, args=(server,))
        answering.start()
        assert asyncio.run(request(server.getsockname()[1])) == httpx.codes.NO_CONTENT
        answering.join(5)
    assert seen == [MARK]


def _answer(server: socket.socket) -> None:
    peer, _ = server.accept()
    with peer:
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
