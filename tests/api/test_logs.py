# SPDX-License-Identifier: Apache-2.0
"""What an application prints of an error when nobody has configured logs, as an embedder may forget to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog

from tests.api.conftest import make_settings
from veilnet.api.app import create_app


@pytest.fixture
def unconfigured() -> Iterator[None]:
    before = structlog.get_config() if structlog.is_configured() else None
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
    if before is not None:
        structlog.configure(**before)


@pytest.mark.usefixtures("unconfigured")
async def test_tracebacks_are_told_without_local_variables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = create_app(make_settings(tmp_path))

    @app.get("/fails")
    async def fails() -> None:
        password = "".join(["correct", " horse", " battery"])
        raise RuntimeError(f"{len(password)} characters")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://master") as client:
        assert (await client.get("/fails")).status_code == 500
    printed = capsys.readouterr()
    assert "correct horse battery" not in printed.out + printed.err
    (line,) = [entry for entry in map(json.loads, printed.err.splitlines()) if "exception" in entry]
    assert "RuntimeError: 21 characters" in line["exception"]


@pytest.mark.usefixtures("unconfigured")
async def test_what_an_embedder_configured_stays(tmp_path: Path) -> None:
    renderer = structlog.processors.KeyValueRenderer()
    structlog.configure(processors=[renderer])
    create_app(make_settings(tmp_path))
    assert structlog.get_config()["processors"] == [renderer]
