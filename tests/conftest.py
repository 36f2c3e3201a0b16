# SPDX-License-Identifier: Apache-2.0
"""Whole-run rules: a skip needs a known reason, and no test leaves a namespace, a lab, a pin or a process behind."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.traces import children, host_traces

# The only reasons for which a test may be skipped; any other skip fails the run. Each names what is missing.
KNOWN_SKIPS = (
    "needs root",
    "liboqs can't be built here",
    "this system has a liboqs of its own",
    "no verifpal in the cache and no cargo to build it",
    "needs PostgreSQL: apt-get install postgresql",
    "no Go toolchain",
    "needs two CPUs",
    "liboqs-python is not installed",
    "long: run with ./run soak",
)


# An example may take as long as it likes: a slow machine is no finding. In CI on top of the profile that comes with it.
settings.register_profile("veilnet", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("veilnet")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: minutes long; runs with ./run soak")
    signal.signal(signal.SIGTERM, _interrupt)  # so that fixtures clean up when the run is asked to end


_ASKED_TO_END = threading.Event()


def _interrupt(_signum: int, _frame: object) -> None:
    _ASKED_TO_END.set()
    raise KeyboardInterrupt


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    if _ASKED_TO_END.is_set():  # the exception was lost where Python ignores them, in a callback of the collector
        raise KeyboardInterrupt


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("soak") and not os.environ.get("VEILNET_SOAK"):
            item.add_marker(pytest.mark.skip(reason="long: run with ./run soak"))
        if (item.get_closest_marker("root") or item.get_closest_marker("lab")) and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


_UNEXPECTED: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _judge(report.nodeid, report.longrepr)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _judge(report.nodeid, report.longrepr)


def _judge(nodeid: str, longrepr: object) -> None:
    reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(KNOWN_SKIPS):
        _UNEXPECTED.append(f"{nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _UNEXPECTED and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _UNEXPECTED:
        terminalreporter.write_line(f"UNEXPECTED SKIP {line}", red=True)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fails the run when it leaves a child process behind, or, in CI where it is alone, a namespace, lab or pin."""
    before = _traces()
    yield
    left = _traces() - before
    assert not left, f"left behind by the tests: {sorted(left)}"


def _traces() -> set[str]:
    parts = bool(os.environ.get("VEILNET_TEST_PARTS"))  # then tools/test_parts.py looks when both have ended
    return children() if parts else children() | host_traces()
