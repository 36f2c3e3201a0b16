# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from tests.client.test_transport import serving
from veilnet.client.api import Api
from veilnet.client.paging import every


def page(*names: str, cursor: str | None = None) -> str:
    return json.dumps({"items": [{"name": name} for name in names], "next_cursor": cursor})


def test_every_item_with_the_same_filters_on_each_page() -> None:
    pages = page("a", cursor="c1"), page(cursor="c2"), page("b")
    with serving(*((200, {}, text) for text in pages)) as (transport, server):
        assert [row["name"] for row in every(Api(transport).list_nodes, realm="lab")] == ["a", "b"]
    assert all("realm=lab" in path and "limit=500" in path for _, path, _, _ in server.seen)
    assert ["cursor=" in path for _, path, _, _ in server.seen] == [False, True, True]


def test_etag_is_that_of_the_last_answer() -> None:
    with serving((200, {"ETag": '"1.x"'}, "{}"), (200, {}, "{}")) as (transport, _):
        api = Api(transport)
        assert api.etag == ""
        api.get_realm("lab")
        assert api.etag == '"1.x"'
        api.get_realm("lab")
        assert api.etag == ""
