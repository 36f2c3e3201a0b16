# SPDX-License-Identifier: Apache-2.0
"""The operators' listener beside a Master in a process of its own, and tracing."""

from __future__ import annotations

import functools
import gzip
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.cli.conftest import MAIN, free_port
from tests.patience import PATIENCE, wait_for
from veilnet.api.bootstrap import init_master
from veilnet.api.ops.tracing import tracer_of_environment
from veilnet.api.settings import SetupError

get = functools.partial(httpx.get, timeout=PATIENCE)


@dataclass(frozen=True)
class Running:
    api: str
    ops: str
    state_dir: Path
    process: subprocess.Popen[bytes]


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[Running]:
    port, ops = free_port(), free_port()
    init_master(folder / "master", f"http://127.0.0.1:{port}")
    arguments = ["--state-dir", str(folder / "master"), "--host", "127.0.0.1", "--plain-http", "--ops"]
    with (folder / "log").open("wb") as log:
        command = [*MAIN, "master", "serve", *arguments, f"127.0.0.1:{ops}"]
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**_environment(), **environment})
    found = Running(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops}", folder / "master", process)
    try:
        _wait(found)
        yield found
    finally:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("VEILNET_MASTER", "OTEL_"))}


def _wait(master: Running) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert master.process.poll() is None, "the Master ended at once"
        try:
            if get(f"{master.ops}/readyz").status_code == 200 and get(f"{master.api}/livez").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the Master was not ready")


def test_health_metrics_and_version(tmp_path: Path) -> None:
    with running(tmp_path) as master:
        assert get(f"{master.ops}/livez").json() == {"live": True}
        assert get(f"{master.ops}/readyz").json() == {"ready": True, "reasons": []}
        assert set(get(f"{master.ops}/version").json()) == {"veilnet", "schema"}
        for path in ("/api/v1/realms", "/api/v1/nodes/nod_x", "/wp-login.php", "/wp-admin.php"):
            get(f"{master.api}{path}")
        text = get(f"{master.ops}/metrics").text
        assert 'veilnet_master_requests_total{operation="list_realms",status="401"} 1.0' in text
        assert 'operation="get_node"' in text and "nod_x" not in text
        assert 'operation="unmatched",status="404"} 2.0' in text and "wp-" not in text
        assert "veilnet_master_node_channels 0.0" in text
        for path in ("/metrics", "/readyz", "/version"):
            assert get(f"{master.api}{path}").status_code == 404, "operators' pages stand on the API's port"


def test_not_ready_says_why(tmp_path: Path) -> None:
    with running(tmp_path) as master:
        with closing(sqlite3.connect(master.state_dir / "master.db")) as database:
            database.execute("UPDATE alembic_version SET version_num = 'x'")
            database.commit()
        answer = get(f"{master.ops}/readyz")
        assert answer.status_code == 503 and "database has schema x" in answer.json()["reasons"][0]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_both_listeners_end_with_the_master(tmp_path: Path, signum: signal.Signals) -> None:
    with running(tmp_path) as master:
        master.process.send_signal(signum)
        assert master.process.wait(PATIENCE) in {0, -signum, 128 + signum}
        for url in (master.api, master.ops):
            with pytest.raises(httpx.TransportError):
                get(f"{url}/livez")


def test_a_port_in_use_is_an_error_to_act_on(tmp_path: Path) -> None:
    with running(tmp_path) as master:
        port = httpx.URL(master.ops).port
        again = tmp_path / "again"
        again.mkdir()
        init_master(again / "master", f"http://127.0.0.1:{free_port()}")
        arguments = ["--state-dir", str(again / "master"), "--plain-http", "--host", "127.0.0.1"]
        command = [*MAIN, "master", "serve", *arguments, "--ops", f"127.0.0.1:{port}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert done.returncode == 1 and f"--ops 127.0.0.1:{port}" in done.stderr and "Traceback" not in done.stderr


class Collector(BaseHTTPRequestHandler):
    bodies: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_spans_go_where_the_operator_says(tmp_path: Path) -> None:
    Collector.bodies = []
    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever, args=(0.05,))
        thread.start()
        try:
            where = f"http://127.0.0.1:{collector.server_port}"
            with running(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=where, OTEL_BSP_SCHEDULE_DELAY="50") as master:
                parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
                get(f"{master.api}/api/v1/nodes/nod_x", headers={"traceparent": parent})
                wait_for(lambda: any(span.name == "get_node" for span in _spans()))
        finally:
            collector.shutdown()
            thread.join()
    span = next(span for span in _spans() if span.name == "get_node")
    assert span.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert {item.key for item in span.attributes} == {"http.request.method", "http.response.status_code"}


def _spans() -> list[Any]:  # the generated protobuf classes have no types
    found = []
    for body in Collector.bodies:
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        found += [span for one in request.resource_spans for two in one.scope_spans for span in two.spans]
    return found


def test_without_an_endpoint_there_is_no_tracer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert tracer_of_environment() is None


def test_an_endpoint_without_the_library_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SetupError, match=r"veilnet\[otel\]"):
        tracer_of_environment()
