# SPDX-License-Identifier: Apache-2.0
"""liboqs against `cryptography`: each key, ciphertext and signature of one is used by the other."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE
from veilnet.protocol.crypto import KEM_CIPHERTEXT_LEN, KEM_PUBLIC_LEN, CryptographyProvider, Provider
from veilnet.protocol.errors import LocalError, RemoteError
from veilnet.protocol.oqs import OqsProvider, find_library

ROOT = Path(__file__).resolve().parents[2]
SEED = bytes(range(64))
CONTEXT = b"veilnet/test/1"


@pytest.fixture(scope="session")
def oqs_path() -> str:
    """OQS_INSTALL_PATH with a library in it: as given, else built into the cache."""
    if "OQS_INSTALL_PATH" in os.environ:
        return os.environ["OQS_INSTALL_PATH"]
    missing = [tool for tool in ("cargo", "cmake", "ninja", "cc") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"liboqs can't be built here: no {', '.join(missing)}")
    built = subprocess.run([ROOT / "tools/build_liboqs.sh"], check=True, capture_output=True, text=True)
    return built.stdout.strip()


@pytest.fixture(scope="session")
def liboqs(oqs_path: str) -> Provider:
    if importlib.util.find_spec("oqs") is None:
        pytest.skip("liboqs-python is not installed: pip install 'veilnet[oqs]'")
    patch = pytest.MonkeyPatch()
    patch.setenv("OQS_INSTALL_PATH", oqs_path)
    try:
        return OqsProvider()
    finally:
        patch.undo()


@pytest.fixture(scope="session")
def openssl() -> Provider:
    return CryptographyProvider()


def test_kem_both_ways(liboqs: Provider, openssl: Provider) -> None:
    assert liboqs.kem_key(SEED).public == openssl.kem_key(SEED).public
    for sender, receiver in ((liboqs, openssl), (openssl, liboqs)):
        key = receiver.kem_key(SEED)
        ciphertext, secret = sender.encaps(key.public)
        assert len(ciphertext) == KEM_CIPHERTEXT_LEN
        assert key.decaps(ciphertext) == secret


def test_implicit_rejection_is_the_same(liboqs: Provider, openssl: Provider) -> None:
    forged = bytes(KEM_CIPHERTEXT_LEN)
    assert liboqs.kem_key(SEED).decaps(forged) == openssl.kem_key(SEED).decaps(forged)


def test_signatures_both_ways(liboqs: Provider, openssl: Provider) -> None:
    assert liboqs.signing_key(SEED[:32]).public == openssl.signing_key(SEED[:32]).public
    for signer, verifier in ((liboqs, openssl), (openssl, liboqs)):
        key = signer.signing_key(SEED[:32])
        signature = key.sign(b"message", CONTEXT)
        assert verifier.verify(key.public, b"message", signature, CONTEXT)
        assert not verifier.verify(key.public, b"message", signature, b"veilnet/other/1")
        assert not verifier.verify(key.public, b"messagE", signature, CONTEXT)
        assert not verifier.verify(key.public, b"message", signature[:-1], CONTEXT)


def test_liboqs_randomness_is_back_after_a_seeded_key(liboqs: Provider) -> None:
    liboqs.signing_key(SEED[:32])
    public = liboqs.kem_key(SEED).public
    assert liboqs.encaps(public) != liboqs.encaps(public)


@pytest.mark.parametrize("name", ["liboqs", "openssl"])
def test_bad_keys_are_the_peers_fault(name: str, request: pytest.FixtureRequest) -> None:
    provider: Provider = request.getfixturevalue(name)
    for public in (b"", bytes(KEM_PUBLIC_LEN - 1)):
        with pytest.raises(RemoteError):
            provider.encaps(public)
    with pytest.raises(RemoteError):
        provider.kem_key(SEED).decaps(bytes(KEM_CIPHERTEXT_LEN - 1))
    with pytest.raises(LocalError):
        provider.kem_key(SEED[:-1])
    with pytest.raises(LocalError):
        provider.verify(b"", b"", b"", bytes(256))


def test_no_library_is_said_plainly_and_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OQS_INSTALL_PATH", str(tmp_path))
    if find_library() is not None:
        pytest.skip("this system has a liboqs of its own")
    code = (
        "import sys\n"
        "from veilnet.protocol.errors import LocalError\n"
        "from veilnet.protocol.oqs import OqsProvider\n"
        "try:\n    OqsProvider()\n"
        "except LocalError as error:\n    print(error)\n"
        "assert 'oqs' not in sys.modules\n"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=PATIENCE)
    assert run.stdout.startswith("no liboqs shared library: ")
    assert "tools/build_liboqs.sh" in run.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_old_library_is_said_plainly(oqs_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = next(file for file in (Path(oqs_path) / "lib").iterdir() if file.name != "liboqs.so")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/liboqs.so").symlink_to(real)
    monkeypatch.setenv("OQS_INSTALL_PATH", str(tmp_path))
    with pytest.raises(LocalError, match="too old for liboqs-python"):
        OqsProvider()
