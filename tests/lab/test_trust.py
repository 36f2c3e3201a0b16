# SPDX-License-Identifier: Apache-2.0
"""Who counts, in a running fleet: revoked nodes, policy, rotation of the CA, and what holds while the Master is away.

c1 ── g1 ── c2          one fleet for all; each test leaves it as it found it, the last one takes it apart
       └─── c3
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import running
from tests.lab.test_continuity import STAR, nothing_lost
from tests.patience import PATIENCE, SOAK, promised
from tests.patience import wait_for as wait
from veilnet.lab import measure
from veilnet.lab.fleet import REALM, Fleet
from veilnet.lab.master import Administrator

pytestmark = [pytest.mark.lab, pytest.mark.root]

EPOCH = 60 if SOAK else 20
"""Life of a certificate here, seconds."""
LIMIT = promised(10.0)
"""Seconds in which a revoked node's links are down (issue 4, C6)."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    path = tmp_path_factory.mktemp("star") / "star.yml"
    path.write_text(STAR)
    with running(str(path)) as fleet:
        master_settings(fleet, heartbeat_seconds=1.0)
        yield fleet


@pytest.fixture(scope="module")
def admin(fleet: Fleet) -> Iterator[Administrator]:
    with fleet.administrator() as admin:
        yield admin


def master_settings(fleet: Fleet, **changes: Any) -> None:
    """Change master.json, with a restart."""
    master = fleet.topology.master.name
    path = fleet.state_directory(master) / "master.json"
    fleet.kill(master)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    fleet.start_master()
    wait(lambda: all(node["connected"] for node in nodes_of(fleet).values()), 2 * PATIENCE)


def nodes_of(fleet: Fleet) -> dict[str, dict[str, Any]]:
    with fleet.administrator() as admin:
        return {node["name"]: node for node in admin.call("GET", "/nodes")["items"]}


def peers(fleet: Fleet, node: str, kind: str) -> set[str]:
    return {row["peer"] for row in fleet.status(node)[kind]}


def connect(fleet: Fleet, *others: str) -> None:
    for other in others:
        measure.first_packet_ms(fleet.lab, "c1", fleet.overlay_address(other))


def test_ca_is_rotated_under_a_flow_and_no_frame_is_lost(fleet: Fleet, admin: Administrator) -> None:
    connect(fleet, "c2")
    rotations = 5 if SOAK else 1
    with nothing_lost(fleet, fleet.overlay_address("c2")):
        for _ in range(rotations):
            admin.call("POST", f"/realms/{REALM}/ca:announce")
            time.sleep(1)
            admin.call("POST", f"/realms/{REALM}/ca:activate")
            took = wait(lambda: admin.call("GET", f"/realms/{REALM}/ca")["remaining"] == 0, 2 * PATIENCE)
            admin.call("POST", f"/realms/{REALM}/ca:finish")
            time.sleep(2)
            print(f"every record signed by the new CA key after {took:.1f} s")
    states = [key["state"] for key in admin.call("GET", f"/realms/{REALM}/ca")["keys"]]
    assert states == ["retired"] * rotations + ["active"]
    wait(lambda: fleet.status("c1")["trust"]["retired"] == rotations, LIMIT)
    told = fleet.status("c1")
    assert len(told["trust"]["ca_keys"]) == rotations + 1 and told["master"]["connected"]
    assert told["clock_fault"] is None and told["refused"] == {}
    master_settings(fleet)  # a Master that starts anew goes on with the new key
    connect(fleet, "c3")


def test_policy_parts_a_running_stream_and_joins_it_again(fleet: Fleet, admin: Administrator) -> None:
    connect(fleet, "c2", "c3")
    rule = {"name": "apart", "effect": "deny", "between": ["node:c1"], "and": ["node:c2"]}
    admin.call("PUT", f"/realms/{REALM}/policy", {"rules": [rule]})
    took = wait(lambda: "c2" not in peers(fleet, "c1", "streams") and "c1" not in peers(fleet, "c2", "streams"), LIMIT)
    print(f"stream parted at both ends {took:.2f} s after the policy")
    assert "c3" in peers(fleet, "c1", "streams")
    admin.call("PUT", f"/realms/{REALM}/policy", {})
    wait(lambda: fleet.status("c1")["known"] == fleet.may_know(fleet.topology.nodes["c1"]), LIMIT)
    connect(fleet, "c2")


def test_without_the_master_trust_ends_within_the_certificates_epoch(fleet: Fleet, admin: Administrator) -> None:
    """Whatever the Master could not tell the others, a revocation too, holds no longer than the certificates that
    they have."""
    connect(fleet, "c2", "c3")
    master_settings(fleet, certificate_seconds=EPOCH)
    for node in nodes_of(fleet).values():  # other taints need other certificates, which live for an epoch
        admin.call("PUT", f"/nodes/{node['id']}/taints", {"taints": ["short"]})
    wait(lambda: min(expiry(fleet)) < time.time() + EPOCH + 5 and fleet.status("c1")["known"]["nodes"] == 4, PATIENCE)
    connect(fleet, "c2")
    time.sleep(2)
    fleet.kill("master")
    end = time.monotonic()
    wait(lambda: not any(peers(fleet, node, "links") for node in ("c1", "c2", "c3", "g1")), EPOCH + LIMIT)
    print(f"every link down {time.monotonic() - end:.1f} s after the Master went, epoch {EPOCH} s")
    fleet.start_master()
    wait(lambda: all(node["connected"] for node in nodes_of(fleet).values()), 2 * PATIENCE)
    connect(fleet, "c2")  # late nodes get their certificates, and all goes on


def expiry(fleet: Fleet) -> list[float]:
    return [datetime.fromisoformat(node["certificate_expires_at"]).timestamp() for node in nodes_of(fleet).values()]


def test_revoked_node_is_out_within_ten_seconds(fleet: Fleet, admin: Administrator) -> None:
    connect(fleet, "c2", "c3")
    node = nodes_of(fleet)["c2"]
    start = time.monotonic()
    admin.call("POST", f"/nodes/{node['id']}:revoke")
    wait(lambda: "c2" not in peers(fleet, "g1", "links") and "c2" not in peers(fleet, "c1", "streams"), LIMIT)
    print(f"links and streams of a revoked node down after {time.monotonic() - start:.2f} s")
    wait(lambda: not fleet.status("c2")["links"], 2 * PATIENCE)
    assert "c3" in peers(fleet, "c1", "streams")


def test_files_hold_no_secret_of_the_rotation(fleet: Fleet) -> None:
    state = fleet.state_directory(fleet.topology.master.name)
    seeds = [path.read_bytes() for path in (state / "realms").iterdir()]
    database = b"".join(path.read_bytes() for path in state.glob("master.db*"))
    assert len(seeds) >= 2
    assert not [seed for seed in seeds if seed in database]
    assert not [path for path in Path(state / "realms").iterdir() if path.stat().st_mode & 0o077]
