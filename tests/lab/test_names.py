# SPDX-License-Identifier: Apache-2.0
"""Names of the realm, from the Master's API to a ping by name."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from veilnet.lab import measure
from veilnet.lab.fleet import Fleet

pytestmark = [pytest.mark.lab, pytest.mark.root]
PATIENCE = 30.0


def names(fleet: Fleet, node: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in json.loads(fleet.veilnet(node, "hosts", "--json", "--instance", fleet.lab.instance(node)))["hosts"]:
        found.setdefault(item["name"], []).append(item["address"])
    return found


def test_a_record_reaches_a_node_and_is_pinged_by_name(line3: Fleet, tmp_path: Path) -> None:
    address, end = line3.overlay_address("c2"), time.monotonic() + PATIENCE
    body = tmp_path / "names.yml"
    body.write_text(f"suffix: net.test\nrecords:\n  db: [{address}]\n")
    line3.admin("realm-dns", "replace", "lab", "--body", str(body))
    try:
        while "db.net.test" not in (known := names(line3, "c1")) and time.monotonic() < end:
            time.sleep(0.2)
        assert known["db.net.test"] == [address]
        assert known["c2.net.test"][0] == address
        file = tmp_path / "hosts"
        line3.veilnet("c1", "hosts", "--write", str(file), "--instance", line3.lab.instance("c1"))
        measure.first_packet_ms(line3.lab, "c1", address)
        script = f"mount --bind {file} /etc/hosts && ping -c 1 -W 5 db.net.test"
        assert f"({address})" in measure.output(line3.lab, "c1", ["unshare", "--mount", "sh", "-c", script])
    finally:
        body.write_text("{}")
        line3.admin("realm-dns", "replace", "lab", "--body", str(body))
