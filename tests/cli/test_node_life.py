# SPDX-License-Identifier: Apache-2.0
"""`veilnet node`, `guardian` and `token` where they speak of a node's life."""

from __future__ import annotations

import asyncio
import json
from ipaddress import IPv4Address
from pathlib import Path

from tests.cli.conftest import Run, Served
from veilnet.cli.bring_up import Wanted, _enrolled
from veilnet.enrolment_token import read_token
from veilnet.keyd.enrol import enrol
from veilnet.keyd.node_files import NodeFiles

ENDPOINT = ((IPv4Address("192.0.2.9"), 4500),)


def wanted(state_dir: Path, *, enrol_again: bool) -> Wanted:
    return Wanted(
        role="guardian",
        instance="test",
        state_dir=state_dir,
        nics=(),
        addresses=(),
        knock_port=4500,
        device="veil0",
        name="g1",
        allow_generic=False,
        dark=False,
        foreground=False,
        enrol_again=enrol_again,
    )


def test_a_nodes_life_by_the_command_line(run: Run, served: Served, tmp_path: Path) -> None:
    run("realm", "create", "lab", *served.admin)
    token = run("token", "create", "--role", "guardian", "--uses", "0", "--ephemeral", *served.admin).out.strip()
    files = NodeFiles(tmp_path / "g1")
    asyncio.run(enrol(files, read_token(token), "g1", ENDPOINT))
    assert json.loads(run("node", "get", "g1", "--json", *served.admin).out)["ephemeral"] is True

    def state() -> str:
        found: str = json.loads(run("node", "get", "g1", "--json", *served.admin).out)["state"]
        return found

    run("node", "expire", "g1", "--expires-at", "2099-01-01T00:00:00Z", *served.admin)
    assert json.loads(run("node", "get", "g1", "--json", *served.admin).out)["expires_at"].startswith("2099")
    run("node", "expire", "g1", *served.admin)
    assert state() == "expired"
    run("node", "renew", "g1", *served.admin)
    assert state() == "active"
    for group in ("node", "guardian"):
        run(group, "drain", "g1", *served.admin)
        assert len(json.loads(run("guardian", "list", "--draining", "--json", *served.admin).out)) == 1
        run(group, "undrain", "g1", *served.admin)
        assert json.loads(run("guardian", "list", "--draining", "--json", *served.admin).out) == []

    run("node", "expire", "g1", *served.admin)
    assert _enrolled(files, wanted(tmp_path / "g1", enrol_again=False), token, ENDPOINT).name == "g1"
    assert state() == "expired", "without being asked to, nothing enrols again"
    assert _enrolled(files, wanted(tmp_path / "g1", enrol_again=True), token, ENDPOINT).name == "g1"
    assert state() == "active"

    items = tmp_path / "items.yml"
    node_id = json.loads(run("node", "get", "g1", "--json", *served.admin).out)["id"]
    items.write_text(f"items:\n- {{id: {node_id}, action: taints, taints: [dev]}}\n- {{id: nod_none, action: drain}}\n")
    tried = json.loads(run("node", "batch", "--body", str(items), "--dry-run", *served.admin).out)
    assert [item["status"] for item in tried["items"]] == [200, 404]
    assert json.loads(run("node", "get", "g1", "--json", *served.admin).out)["taints"] == []
    run("node", "batch", "--body", str(items), *served.admin)
    assert json.loads(run("node", "get", "g1", "--json", *served.admin).out)["taints"] == ["dev"]
    run("node", "delete", "g1", *served.admin)
    assert json.loads(run("node", "list", "--json", *served.admin).out) == []
