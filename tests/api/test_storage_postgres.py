# SPDX-License-Identifier: Apache-2.0
"""A Master on Postgres: made, backed up by pg_dump while it stands there, restored into another database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.postgres import Cluster
from veilnet.api.bootstrap import init_master
from veilnet.api.settings import MasterSettings, SetupError, load_settings
from veilnet.api.storage.backup import back_up, restore
from veilnet.api.storage.doctor import examine


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[list[str]]:
    """Names of two databases without a table."""
    names = ["veil_empty_one", "veil_empty_two"]
    for name in names:
        cluster.psql("postgres", f"CREATE DATABASE {name}")
    yield names
    for name in names:
        cluster.drop(name)


@pytest.fixture
def made(cluster: Cluster, empty: list[str], tmp_path: Path) -> MasterSettings:
    init_master(tmp_path / "master", "http://127.0.0.1:8443", cluster.url(empty[0]))
    return load_settings(tmp_path / "master")


async def test_the_doctor_finds_it_whole(made: MasterSettings) -> None:
    findings = await examine(made)
    assert all(finding.ok for finding in findings), findings
    assert {"schema", "tables"} <= {finding.check for finding in findings}


def test_backup_and_restore(cluster: Cluster, empty: list[str], made: MasterSettings, tmp_path: Path) -> None:
    back_up(made.state_dir, tmp_path / "b.tar")
    again = restore(tmp_path / "b.tar", tmp_path / "other", cluster.url(empty[1])).settings
    assert again.database_url == cluster.url(empty[1])
    query = "SELECT id, name, hash FROM api_tokens"
    assert cluster.psql(empty[0], query) == cluster.psql(empty[1], query) != ""
    with pytest.raises(SetupError, match="pg_restore"):  # it is not empty any more
        restore(tmp_path / "b.tar", tmp_path / "third", cluster.url(empty[1]))
    assert not (tmp_path / "third" / "master.json").exists()


def test_a_database_serves_one_master(cluster: Cluster, empty: list[str], made: MasterSettings, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="already serves a Master"):
        init_master(tmp_path / "second", "http://127.0.0.1:8443", made.database_url)
    assert not (tmp_path / "second" / "master.json").exists()


@pytest.mark.parametrize("url", ["postgresql://u:confidential@127.0.0.1:1/x", "mysql://x/y", "nonsense"])
def test_a_database_that_can_not_be_had(tmp_path: Path, url: str) -> None:
    with pytest.raises(SetupError) as found:
        init_master(tmp_path / "master", "http://127.0.0.1:8443", url)
    assert "confidential" not in str(found.value)
    assert not (tmp_path / "master" / "master.json").exists()
