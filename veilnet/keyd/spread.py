# SPDX-License-Identifier: Apache-2.0
"""Carries out what `napi.Governor` wishes: a Conflux's NICs follow what is opened, veil0p what is sealed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import structlog

from veilnet.files import write_private
from veilnet.keyd.napi import Governor, Traffic
from veilnet.loader.napi import ThreadedSwitch, open_switches

PERIOD: Final = 0.5
_RX_BYTES, _RX_PACKETS, _TX_BYTES, _TX_PACKETS = 0, 1, 8, 9

log = structlog.get_logger("veilnet.keyd")


def read_traffic(device: str, table: str) -> tuple[Traffic, Traffic]:
    """(received, sent) of a device in the text of /proc/net/dev; zeros if it is not there."""
    for line in table.splitlines():
        name, _, values = line.partition(":")
        if name.strip() == device:
            numbers = [int(value) for value in values.split()]
            return Traffic(numbers[_RX_BYTES], numbers[_RX_PACKETS]), Traffic(numbers[_TX_BYTES], numbers[_TX_PACKETS])
    return Traffic(0, 0), Traffic(0, 0)


class Spreader:
    """Threads of a Conflux's devices. A device that had one before us is left alone; `marker` lists those that we gave
    one, so that a run after a kill takes them back."""

    def __init__(self, device: str, nics: tuple[str, ...], marker: Path) -> None:
        self._device, self._marker = device, marker
        self._opened, self._sealed = Governor(), Governor()
        ours = set(marker.read_text(encoding="utf-8").split()) if marker.exists() else set()
        switches = open_switches([*nics, f"{device}p"])
        self._switches: list[tuple[ThreadedSwitch, Governor]] = []
        for switch in switches:
            if switch.initial and switch.device not in ours:
                switch.close()
                continue
            switch.set(False)
            self._switches.append((switch, self._sealed if switch.device == f"{device}p" else self._opened))
        marker.unlink(missing_ok=True)

    async def run(self) -> None:
        try:
            while True:
                await asyncio.sleep(PERIOD)
                self._step(Path("/proc/self/net/dev").read_text(encoding="ascii"), time.monotonic())
        finally:
            self.close()

    def _step(self, table: str, now: float) -> None:
        received, sent = read_traffic(self._device, table)
        before = [governor.threaded for _, governor in self._switches]
        self._opened.update(received, now)
        self._sealed.update(sent, now)
        for (switch, governor), was in zip(self._switches, before, strict=True):
            if governor.threaded != was:
                self._mark()
                switch.set(governor.threaded)
                log.info("threaded_napi", device=switch.device, on=governor.threaded)

    def _mark(self) -> None:
        names = [switch.device for switch, governor in self._switches if governor.threaded]
        write_private(self._marker, "\n".join(names).encode())

    def close(self) -> None:
        """Put every device back as it was."""
        for switch, _ in self._switches:
            switch.set(False)
            switch.close()
        self._switches = []
        self._marker.unlink(missing_ok=True)
