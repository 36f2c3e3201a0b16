# SPDX-License-Identifier: Apache-2.0
"""What a node says that it runs: once, later if the Master can't now, to nobody who does not know it."""

from __future__ import annotations

import httpx
import pytest

from veilnet.api.posture.schemas import NodeSoftware
from veilnet.keyd.statements import Software, software


class Answers:
    def __init__(self, *status: int) -> None:
        self.left, self.asked = list(status), 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        assert (request.method, request.url.path) == ("PUT", "/api/v1/node/software")
        return httpx.Response(self.left.pop(0), headers={"Retry-After": "30"})


async def tell(statement: Software, answers: Answers) -> httpx.Response | None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answers)) as client:
        return await statement.send(client, "https://master.example", {})


def test_the_master_takes_what_is_said_here() -> None:
    said = NodeSoftware.model_validate(software())
    assert "OpenSSL " in said.provider and "cryptography" in said.provider


async def test_it_is_said_once_and_later_if_need_be() -> None:
    now = [100.0]
    statement, answers = Software(lambda: now[0]), Answers(503, 429, 200)
    for waited in (0, 30, 30):
        assert not waited or not statement
        now[0] += waited
        assert statement and await tell(statement, answers) is None
    now[0] += 1000
    assert not statement and answers.asked == 3


@pytest.mark.parametrize(("status", "refused"), [(404, False), (422, True)])
async def test_an_older_master_is_no_fault(status: int, refused: bool) -> None:
    statement = Software()
    assert (await tell(statement, Answers(status)) is not None) is refused
    assert not statement
