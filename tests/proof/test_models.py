# SPDX-License-Identifier: Apache-2.0
"""The symbolic models: their step labels are in the specification, and the quick ones give the verdict they promise."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODELS = sorted((ROOT / "docs" / "proof").glob("*.vp"))
LABEL = re.compile(r"\b(?:FR|ST|KN|HS|HA|HB|RA|RB|CF|SK|CT|RK|CI|ID)\d+\b")
QUICK = ("rekey.vp", "identity_member.vp", "control_no_cf3.vp", "control_rekey_no_fresh.vp")
"""About 2 s together; `tools/proof.sh` without arguments runs all."""


def comment_labels(model: Path) -> set[str]:
    comments = [line.partition("//")[2] for line in model.read_text().splitlines()]
    return {label for text in comments for label in LABEL.findall(text)}


def specified_labels() -> set[str]:
    return set(re.findall(r"\[([A-Z]{2}\d+)\]", (ROOT / "docs" / "protocol.md").read_text()))


def tools_dir() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("VEILNET_TOOLS") or cache / "veilnet-tools")


def need_verifpal() -> None:
    if not (tools_dir() / "verifpal" / "bin" / "verifpal").exists() and shutil.which("cargo") is None:
        pytest.skip("no verifpal in the cache and no cargo to build it")


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
def test_labels_exist_in_specification(model: Path) -> None:
    labels = comment_labels(model)
    assert labels
    assert labels <= specified_labels()


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
def test_no_model_asks_for_fewer_than_two_sessions(model: Path) -> None:
    asked = re.findall(r"^// sessions: (\d+)", model.read_text(), re.MULTILINE)
    assert all(int(count) >= 2 for count in asked)


def test_every_handshake_and_rekey_step_is_modelled() -> None:
    modelled = set().union(*(comment_labels(model) for model in MODELS))
    keyed = {label for label in specified_labels() if label[:2] in {"HS", "HA", "HB", "RA", "RB", "CF", "RK", "CI"}}
    # state kept elsewhere, erasure, bookkeeping of labels, refusal while draining
    assert keyed - modelled == {"RA5", "RK5", "CI1", "CI5", "CI6"}


def test_models_are_listed_with_what_they_say() -> None:
    readme = (ROOT / "docs" / "proof" / "README.md").read_text()
    assert [model.name for model in MODELS if f"`{model.name}`" not in readme] == []


@pytest.mark.parametrize("name", QUICK)
def test_quick_models(name: str) -> None:
    need_verifpal()
    done = subprocess.run(
        [ROOT / "tools" / "proof.sh", f"docs/proof/{name}"], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_control_without_an_attack_fails(tmp_path: Path) -> None:
    need_verifpal()
    sound = tmp_path / "control_sound.vp"
    shutil.copy(ROOT / "docs" / "proof" / "identity_member.vp", sound)
    done = subprocess.run(
        [ROOT / "tools" / "proof.sh", sound], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode != 0
    assert "FAIL" in done.stdout
