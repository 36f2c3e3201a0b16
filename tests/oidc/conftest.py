# SPDX-License-Identifier: Apache-2.0
"""Two providers that nobody here wrote, on loopback, and a person with a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from tests.patience import PATIENCE
from veilnet.oidc.pkce import Client

with warnings.catch_warnings():  # its own libraries' deprecations
    warnings.simplefilter("ignore")
    import oidc_provider_mock

PROVIDER = Path(__file__).parent / "provider"


@dataclass(frozen=True)
class Provider:
    issuer: str
    client: Client
    username: str
    password: str | None


@pytest.fixture
def mock_provider() -> Iterator[Provider]:
    """`oidc-provider-mock`: code flow for clients with a secret; any client, any subject."""
    with oidc_provider_mock.run_server_in_thread() as server:
        yield Provider(
            f"http://localhost:{server.server_port}", Client("veilnet-cli", "not a secret"), "alice@example.org", None
        )


@pytest.fixture(scope="session")
def provider_binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go toolchain: the example provider of github.com/zitadel/oidc can't be built")
    binary = tmp_path_factory.mktemp("provider") / "provider"
    done = subprocess.run(
        [go, "build", "-o", str(binary), "."], check=False, cwd=PROVIDER, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return binary


@pytest.fixture
def zitadel(provider_binary: Path) -> Iterator[Provider]:
    """The example server of `github.com/zitadel/oidc`: code with PKCE, and device codes."""
    with subprocess.Popen([str(provider_binary)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Provider(
                process.stdout.readline().strip(), Client("veilnet-cli"), "test-user@localhost", "verysecure"
            )
        finally:
            process.terminate()


Person = Callable[[str], None]


@contextmanager
def person(act: Callable[[httpx.Client, str], None]) -> Iterator[Person]:
    """A person who does `act` with what is shown, on a thread of their own; what goes wrong there is raised here."""
    wrong: list[BaseException] = []
    threads: list[threading.Thread] = []

    def run(shown: str) -> None:
        try:
            with httpx.Client(follow_redirects=True, timeout=PATIENCE, trust_env=False) as browser:
                act(browser, shown)
        except BaseException as error:
            wrong.append(error)

    def start(shown: str) -> None:
        threads.append(threading.Thread(target=run, args=(shown,)))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


def hidden(page: str) -> dict[str, str]:
    """Hidden fields of a page's forms."""
    return {
        name: unescape(value)
        for tag in re.findall(r"<input[^>]*type=\"hidden\"[^>]*>", page)
        for name in re.findall(r'name="([^"]*)"', tag)
        for value in re.findall(r'value="([^"]*)"', tag)
    }


def submit(browser: httpx.Client, page: httpx.Response, fields: dict[str, str]) -> httpx.Response:
    """Send the page's form with its hidden fields and `fields`."""
    action = re.search(r'<form[^>]*action="([^"]*)"', page.text)
    target = urljoin(str(page.url), unescape(action[1])) if action else str(page.url)
    return browser.post(target, data={**hidden(page.text), **fields})
