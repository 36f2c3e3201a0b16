# SPDX-License-Identifier: Apache-2.0
"""`veilnet plan`, `apply` and `destroy` against a served Master."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from pathlib import Path
from typing import Any

import yaml

from tests.cli.conftest import Run, Served
from tests.patience import promised
from veilnet.enrolment_token import read_token
from veilnet.keyd.enrol import enrol
from veilnet.keyd.node_files import NodeFiles

NODES = 200
SECONDS = promised(120)  # 38 s on two busy cores
PARALLEL = 4


def written(path: Path, document: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(document))
    return str(path)


def enrol_all(tokens: Path, directory: Path, names: list[str]) -> None:
    """As nodes do it: own keys, signed request, over TLS with the pinned certificate."""

    async def one(gate: asyncio.Semaphore, name: str) -> None:
        async with gate:
            await enrol(NodeFiles(directory / name), read_token((tokens / name).read_text()), name, ())

    async def every_one() -> None:
        gate = asyncio.Semaphore(PARALLEL)
        await asyncio.gather(*(one(gate, name) for name in names))

    asyncio.run(every_one())


def small() -> dict[str, Any]:
    return {
        "realm": "lab",
        "settings": {"min_guardians": 1},
        "nodes": {"g1": {"roles": ["guardian"]}, "c1": {"roles": ["conflux"], "taints": ["dev"], "labels": {"r": "1"}}},
        "links": [["g1", "c1"]],
    }


def test_two_hundred_nodes_planned_applied_changed_and_torn_down(run: Run, served: Served, tmp_path: Path) -> None:
    """C7 of the Master."""
    start = time.monotonic()
    names = [f"n{index}" for index in range(1, NODES + 1)]
    nodes = {name: {"roles": ["guardian" if i < 20 else "conflux"], "taints": ["eu"]} for i, name in enumerate(names)}
    ring = [[name, names[(i + 1) % NODES]] for i, name in enumerate(names)]
    policy = {"rules": [{"name": "apart", "effect": "deny", "between": ["taint:eu"], "and": ["taint:us"]}],
              "tests": [{"a": "n1", "b": "n2", "allowed": True}]}  # fmt: skip
    document = {"realm": "lab", "ipv4_range": "10.9.0.0/16", "policy": policy, "nodes": nodes, "links": ring}
    file, tokens = written(tmp_path / "fleet.yml", document), tmp_path / "tokens"
    took: dict[str, float] = {}

    def timed(name: str, *arguments: str, code: int = 0) -> dict[str, Any]:
        begin = time.monotonic()
        more = [] if arguments[0] == "plan" else ["--yes"]
        found = run(*arguments, "-f", file, "--json", *more, *served.admin, code=code)
        took[name] = time.monotonic() - begin
        answer: dict[str, Any] = json.loads(found.out)
        return answer

    def steps(answer: dict[str, Any]) -> dict[str, int]:
        kinds = [step["action"] for step in answer["steps"]]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    planned = timed("plan", "plan", code=2)
    assert steps(planned) == {"create-realm": 1, "create-token": NODES, "policy": 1}
    assert planned["waiting"] == names
    made = timed("apply", "apply", "--tokens-dir", str(tokens))
    assert made["steps"] == planned["steps"] == made["done"]
    assert {stat.S_IMODE((tokens / name).stat().st_mode) for name in names} == {0o600}
    assert (steps(timed("apply again", "apply")), timed("plan again", "plan")["waiting"]) == ({}, names)
    begin = time.monotonic()
    enrol_all(tokens, tmp_path / "nodes", names)
    took["enrol"] = time.monotonic() - begin
    assert steps(timed("apply edges", "apply")) == {"policy": 1, "topology": 1}
    assert len(json.loads(run("topology", "show", "--json", *served.admin).out)) == NODES
    nothing = timed("nothing", "plan")
    assert nothing.pop("realm") == "lab"
    assert not any(nothing.values())
    for name in names[100:]:
        nodes[name]["taints"] = ["us"]
    document["links"] = [*ring[:-1], ["n1", "n100"], ["n1", "n150"]]
    written(tmp_path / "fleet.yml", document)
    assert steps(timed("plan change", "plan", code=2)) == {"taints": 100, "topology": 1}
    assert len(timed("apply change", "apply")["done"]) == 101
    assert steps(timed("apply change again", "apply")) == {}
    listed = json.loads(run("node", "list", "--json", *served.admin).out)
    assert {node["name"]: node["taints"] for node in listed} == {name: nodes[name]["taints"] for name in names}
    assert steps(timed("destroy", "destroy")) == {"revoke-node": NODES}
    assert steps(timed("destroy again", "destroy")) == {}
    left = json.loads(run("node", "list", "--json", *served.admin).out)
    assert {node["state"] for node in left} == {"revoked"}
    took["all"] = time.monotonic() - start
    print(", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items()))
    assert took["all"] < SECONDS


def test_for_people(run: Run, served: Served, tmp_path: Path) -> None:
    file, tokens = written(tmp_path / "f.yml", small()), tmp_path / "tokens"
    planned = run("plan", "-f", file, *served.admin, code=2).out
    assert planned.splitlines() == [
        "realm lab: 3 changes",
        "  + realm lab",
        "  + token for c1 (conflux)",
        "  + token for g1 (guardian)",
        "  waiting for c1, g1 to enrol",
    ]
    assert "--yes" in run("apply", "-f", file, "--tokens-dir", str(tokens), *served.admin, code=2).err
    assert "--tokens-dir" in run("apply", "-f", file, "--yes", *served.admin, code=2).err
    assert json.loads(run("realm", "list", "--json", *served.admin).out) == []
    done = run("apply", "-f", file, "--yes", "--tokens-dir", str(tokens), *served.admin)
    assert done.out == ""
    assert read_token((tokens / "g1").read_text()).secret not in done.err
    assert "done: + token for g1 (guardian)" in done.err
    enrol_all(tokens, tmp_path / "nodes", ["g1", "c1"])
    assert "~ labels of c1: r\n  ~ topology: + c1-g1" in run("plan", "-f", file, *served.admin, code=2).out
    run("apply", "-f", file, "--yes", *served.admin)
    assert run("plan", "-f", "-", *served.admin, stdin=Path(file).read_text()).out == "realm lab: nothing to do\n"
    run("destroy", "-f", file, "--yes", *served.admin)
    assert json.loads(run("topology", "show", "--json", *served.admin).out) == []


def test_lost_tokens_and_strangers_are_named(run: Run, served: Served, tmp_path: Path) -> None:
    file = written(tmp_path / "f.yml", small())
    run("apply", "-f", file, "--yes", "--tokens-dir", str(tmp_path / "one"), *served.admin)
    other = run("apply", "-f", file, "--yes", "--tokens-dir", str(tmp_path / "two"), *served.admin)
    assert "for the token of c1, g1" in other.err and "veilnet token revoke" in other.err
    enrol_all(tmp_path / "one", tmp_path / "nodes", ["g1", "c1"])
    document = small()
    del document["nodes"]["c1"], document["links"]
    written(tmp_path / "f.yml", document)
    assert "left alone: c1" in run("plan", "-f", file, *served.admin).out
    run("apply", "-f", file, "--yes", "--prune", *served.admin)
    states = {node["name"]: node["state"] for node in json.loads(run("node", "list", "--json", *served.admin).out)}
    assert states == {"c1": "revoked", "g1": "active"}


def test_stops_at_the_first_failure_and_goes_on_from_there(run: Run, served: Served, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    (tokens / "g1").mkdir(parents=True)  # a directory where the file should go
    file = written(tmp_path / "f.yml", small())
    failed = run("apply", "-f", file, "--yes", "--json", "--tokens-dir", str(tokens), *served.admin, code=1)
    answer = json.loads(failed.out)
    assert [step["subject"] for step in answer["done"]] == ["lab", "c1"]
    assert answer["failed"]["subject"] == "g1" and "2 changes were made, 1 were not" in failed.err
    listed = json.loads(run("token", "list", "--json", *served.admin).out)
    assert {token["node_name"]: token["state"] for token in listed} == {"c1": "usable", "g1": "revoked"}
    (tokens / "g1").rmdir()
    rest = run("apply", "-f", file, "--yes", "--json", "--tokens-dir", str(tokens), *served.admin)
    assert [step["subject"] for step in json.loads(rest.out)["done"]] == ["g1"]


def test_names_and_lifetimes_are_applied_and_then_there_is_nothing_to_do(
    run: Run, served: Served, tmp_path: Path
) -> None:
    wanted: dict[str, Any] = {"realm": "lab", "settings": {"certificate_seconds": 7200}}
    file = written(tmp_path / "f.yml", {**wanted, "dns": {"suffix": "lab.test", "records": {"v6": ["FD00::0:1"]}}})
    for changes in (2, 0):
        done = json.loads(run("apply", "-f", file, "--yes", "--json", *served.admin).out)["done"]
        assert len(done) == changes
    held = json.loads(run("realm-dns", "get", "lab", "--json", *served.admin).out)
    assert held == {"suffix": "lab.test", "records": {"v6": ["fd00::1"]}}
    written(tmp_path / "f.yml", {**wanted, "settings": {"certificate_seconds": None}, "dns": {}})
    done = json.loads(run("apply", "-f", file, "--yes", "--json", *served.admin).out)["done"]
    assert [step["action"] for step in done] == ["settings", "dns"]


def test_what_the_master_refuses_is_said(run: Run, served: Served, tmp_path: Path) -> None:
    file = written(tmp_path / "f.yml", {"realm": "lab", "settings": {"idle_seconds": 1}})
    assert "/settings/idle_seconds" in run("apply", "-f", file, "--yes", *served.admin, code=1).err
    run("realm", "create", "lab", "--ipv4", "10.9.0.0/16", *served.admin)
    written(tmp_path / "f.yml", {"realm": "lab", "ipv4_range": "10.8.0.0/16"})
    assert "can't be done" in run("plan", "-f", file, *served.admin, code=1).out
    assert "for life" in run("apply", "-f", file, "--yes", *served.admin, code=1).err


def test_files_that_are_wrong(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "f.yml"
    file.write_text("realm: lab\nlinks: [[a, b]]\n")
    assert f"{file}:2: links[0][0]" in run("plan", "-f", str(file), code=1).err
    file.write_bytes(b"\xff")
    assert "UTF-8" in run("apply", "-f", str(file), code=2).err
    assert "No such file" in run("destroy", "-f", str(tmp_path / "no"), code=2).err
