# SPDX-License-Identifier: Apache-2.0
"""Memory of a Guardian's key daemon after 1,000 circuits, made over one link by a member of the realm.

The member is a node's own key daemon with one more task:
`python -m bench.circuits INSTANCE STATE_DIR NIC GUARDIAN COUNT`
takes the place of that node's keyd, asks for the circuits and says `made N` when they are there.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench import ours
from bench.netrig import NETNS_DIR
from bench.report import Row, row
from veilnet.keyd.link import Link
from veilnet.keyd.main import configure_logging
from veilnet.keyd.node import MasterClient
from veilnet.keyd.node_files import NodeFiles
from veilnet.keyd.shell import Shell
from veilnet.lab.fleet import Fleet
from veilnet.lab.lab import Lab
from veilnet.protocol.messages import Create, Created

COUNT = 1000
AT_ONCE = 20
TIMEOUT = 120.0


def rows(_runs: int = 1) -> list[Row]:
    """MB resident in the Guardian's keyd before and after; one run, since memory does not vary with load."""
    lab = Lab(ours.NAME)
    lab.up(str(ours.TOPOLOGY))
    try:
        fleet = Fleet(lab)
        fleet.start(partial(print, file=sys.stderr))
        fleet.kill("c1")
        before = resident(fleet.pid("g1"))
        with _member(fleet):
            after = resident(fleet.pid("g1"))
            legs = len(fleet.status("g1")["legs"])
        if legs < COUNT:
            raise RuntimeError(f"{legs} circuits at the Guardian, not {COUNT}")
    finally:
        lab.down()
    return [
        row("keyd resident memory, Guardian, no circuit", "MB", before),
        row("keyd resident memory, Guardian, 1,000 circuits", "MB", after),
    ]


def resident(pid: int) -> float:
    """Resident memory of a process, MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@contextmanager
def _member(fleet: Fleet) -> Iterator[None]:
    """The process that made COUNT circuits from c1 to g1, alive for the time of the block."""
    lab = fleet.lab
    enter = ["nsenter", f"--net={NETNS_DIR / lab.namespace('c1')}", "--", sys.executable, "-m", "bench.circuits"]
    command = [*enter, lab.instance("c1"), str(fleet.state_directory("c1")), "u-g1", "g1", str(COUNT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stdout or [])
            if not any(line.startswith("made ") for line in lines):
                raise RuntimeError(f"no {COUNT} circuits: exit {process.wait()}")
            yield
        finally:
            process.terminate()


# ---- the member ---------------------------------------------------------------------------------------------------


class Maker:
    """Asks for circuits that end at the first Guardian, AT_ONCE under way at a time."""

    def __init__(self, shell: Shell, guardian: str, count: int) -> None:
        self._shell, self._engine = shell, shell.engine
        self._guardian, self._left, self._made, self._count = guardian, count, 0, count
        self.done = asyncio.Event()

    async def run(self) -> None:
        while (node := self._engine.core.directory.by_name(self._guardian)) is None:
            await asyncio.sleep(0.1)
        self._engine.links.to(node.node_id, self._linked)
        self._flush()
        await asyncio.wait_for(self.done.wait(), TIMEOUT)
        print(f"made {self._made}", flush=True)

    def _linked(self, link: Link | None) -> None:
        if link is None:
            raise RuntimeError("no link to the Guardian")
        for _ in range(min(AT_ONCE, self._left)):
            self._ask(link)

    def _ask(self, link: Link) -> None:
        self._left -= 1
        label = self._engine.core.take_label()
        link.labels.add(label)
        requests, links = self._engine.links._requests, self._engine.links
        requests.start(
            lambda request: links.send(link, Create(request, label)),
            lambda answer: self._answered(link, answer),
            lambda: None,
        )

    def _answered(self, link: Link, answer: object) -> None:
        self._made += isinstance(answer, Created)
        if self._left:
            self._ask(link)
        elif self._made == self._count:
            self.done.set()
        self._flush()

    def _flush(self) -> None:
        """Carry out what the engine has queued outside one of its inputs."""
        loop = asyncio.get_running_loop()
        loop.call_soon(self._shell._poll)


async def _serve(instance: str, state: Path, nic: str, guardian: str, count: int) -> None:
    files = NodeFiles(state)
    shell = Shell(instance, files.node_keys(), (nic,), 0)
    maker, stop = Maker(shell, guardian, count), asyncio.Event()
    making = asyncio.create_task(maker.run())
    try:
        await shell.run(MasterClient(files).snapshots(), stop)
    finally:
        making.cancel()


if __name__ == "__main__":
    configure_logging(verbose=False)
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])))
