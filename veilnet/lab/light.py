# SPDX-License-Identifier: Apache-2.0
"""Light nodes: enrolment and the Master's channel as every node does them, many nodes in one process, no data plane.

    python -m veilnet.lab.light REPORT DIRECTORY NAME=ADDRESS...     inside the light nodes' namespace

Each DIRECTORY/NAME has a `token` and gets a `state`. REPORT is a JSON file, written again every second: {"enrolled": n,
"connected": n, "lowest": the oldest directory's version, "errors": {...}}.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from veilnet.enrolment_token import read_token
from veilnet.files import write_private
from veilnet.keyd.enrol import enrol
from veilnet.keyd.node import MasterClient
from veilnet.keyd.node_files import NodeError, NodeFiles

PORT = 51820  # a descriptor names an endpoint; nothing listens, here or on any other VeilNet node
ENROL_PARALLEL = 4
TRIES = 5


@dataclass
class LightNode:
    name: str
    address: IPv4Address
    files: NodeFiles
    client: MasterClient | None = None
    error: str = ""

    async def enrol(self, directory: Path) -> None:
        token = read_token((directory / self.name / "token").read_text(encoding="ascii"))
        for attempt in range(TRIES):
            try:
                await enrol(self.files, token, self.name, ((self.address, PORT),))
                self.error = ""
                return
            except NodeError as error:
                self.error = str(error)
                await asyncio.sleep(0.5 * 2**attempt)

    async def follow(self) -> None:
        """Take every snapshot that the Master sends."""
        self.client = MasterClient(self.files)
        async for _ in self.client.snapshots():
            pass


async def _main(report: Path, directory: Path, addresses: dict[str, str]) -> None:
    nodes = [
        LightNode(name, IPv4Address(address), NodeFiles(directory / name / "state"))
        for name, address in addresses.items()
    ]
    gate = asyncio.Semaphore(ENROL_PARALLEL)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_report(report, nodes))
        # all are enrolled before one listens: each enrolment is a snapshot for all who do
        await asyncio.gather(*(_enrolled(node, directory, gate) for node in nodes))
        for node in nodes:
            if node.files.enrolled:
                tasks.create_task(node.follow())


async def _enrolled(node: LightNode, directory: Path, gate: asyncio.Semaphore) -> None:
    async with gate:
        if not node.files.enrolled:
            await node.enrol(directory)


async def _report(report: Path, nodes: list[LightNode]) -> None:
    while True:
        clients = [node.client for node in nodes if node.client]
        errors = {node.name: node.error or (node.client.last_error if node.client else "") for node in nodes}
        facts = {
            "time": time.time(),
            "enrolled": sum(node.files.enrolled for node in nodes),
            "connected": sum(client.connected for client in clients),
            "lowest": min((client.version for client in clients), default=0),
            "errors": {name: text for name, text in errors.items() if text},
        }
        write_private(report, json.dumps(facts).encode())
        await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), Path(sys.argv[2]), dict(word.split("=") for word in sys.argv[3:])))
