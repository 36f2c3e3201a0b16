# SPDX-License-Identifier: Apache-2.0
"""The networks that this node's owner offers to be a gateway of, until the Master has heard of it.

    networks.json      all of them; an empty list is told once and then goes

The Master may have been restored from a backup since, so each process tells it anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_network
from typing import Final

from veilnet.keyd.node_files import NodeFiles
from veilnet.keyd.statements import Statement
from veilnet.protocol.networks import IpNetwork

_FILE: Final = "networks.json"


def advertise(files: NodeFiles, networks: Iterable[IpNetwork]) -> None:
    """Keep these, and no others, for the key daemon to tell."""
    texts = sorted(str(network) for network in networks)
    if texts != (advertised(files) or []) or (not texts and (files.state_dir / _FILE).exists()):
        files.write(_FILE, json.dumps(texts).encode())


def advertised(files: NodeFiles) -> list[str] | None:
    """What is to be told; None: nothing. A file that can't be read is nothing."""
    try:
        stated = json.loads((files.state_dir / _FILE).read_bytes())
        return [str(ip_network(text)) for text in stated]
    except (OSError, ValueError, TypeError):
        return None


class Proposal(Statement):
    """What the Master is still to hear from this process."""

    def __init__(self, files: NodeFiles, clock: Callable[[], float] = time.monotonic) -> None:
        self._files, self._wanted = files, advertised(files)
        super().__init__("networks", None if self._wanted is None else {"prefixes": self._wanted}, clock)

    def heard(self) -> None:
        if not self._wanted:
            (self._files.state_dir / _FILE).unlink(missing_ok=True)
