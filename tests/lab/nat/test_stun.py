# SPDX-License-Identifier: Apache-2.0
"""NAT kinds as independent STUN clients see them: coturn's turnutils_natdiscovery (RFC 5780) and pystun3 (RFC 3489)
against coturn's server. All NATs are asked at once: most of the time goes by waiting for answers that must not come.
"""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.conftest import fresh_name
from tests.lab.nat.rig import SERVERS, Rig
from veilnet.lab import nat
from veilnet.lab.nat import Dependence, Firewall, NatKind
from veilnet.lab.nat.run import run
from veilnet.lab.net import in_namespace

pytestmark = [pytest.mark.lab]

DEADLINE = 180  # each asks several servers and waits for the silent ones
"""Seconds for all clients, which wait for the most part."""
BEHAVIOUR_PORT, CLASSIC_PORT = 3478, 3578
_EI, _AD, _APD = Dependence
COMBINATIONS = {
    f"{mapping}, {filtering}": NatKind(mapping, filtering, hairpin=mapping is not _APD)
    for mapping, filtering in itertools.product(Dependence, Dependence)
}
CGNATS = {name: nat.KINDS[name] for name in ("full-cone", "port-restricted-cone", "symmetric")}
"""The customer's half, in front of a carrier's."""
BLOCKED = NatKind(filtering=_EI, firewall=Firewall(udp=False))


@dataclass(frozen=True)
class Asked:
    """Output of the clients behind one NAT, or behind two."""

    behaviour: str
    """RFC 5780: hairpinning, mapping, filtering."""
    classic: str
    """RFC 3489."""


class Discovery:
    """STUN servers, and NATs with a host behind each."""

    def __init__(self, folder: Path) -> None:
        self.rig, self.folder = Rig(fresh_name()), folder
        self._numbers = itertools.count(1)
        self.server = self.rig.server()
        self.children: list[subprocess.Popen[str]] = []

    def _start(self, namespace: str, *command: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [*in_namespace(namespace), *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.children.append(child)
        return child

    def serve(self, port: int) -> None:
        """coturn with two addresses and two ports, so that it offers RFC 5780's CHANGE-REQUEST."""
        files = ["--log-file", f"{self.folder}/{port}.log", "--pidfile", f"{self.folder}/{port}.pid"]
        ports = ["--listening-port", str(port), "--userdb", f"{self.folder}/{port}.db"]
        addresses = [word for address in SERVERS for word in ("--listening-ip", address)]
        modes = ["-n", "--stun-only", "--no-tls", "--no-dtls", "--no-cli", "--no-tcp", "--simple-log"]
        self._start(self.server, "turnserver", *modes, *addresses, *ports, *files)

    def wait_for_servers(self, *ports: int) -> None:
        """Until both ports of each listen on both addresses."""
        wanted = {f"{address}:{port + more}" for address in SERVERS for port in ports for more in (0, 1)}
        deadline = time.monotonic() + 20
        while missing := wanted - set(run(self.server, "ss", "-Hlun").split()):
            assert time.monotonic() < deadline, f"coturn does not listen on {missing}"
            time.sleep(0.05)

    def _nat(self, kind: NatKind, gateway: str) -> tuple[str, int]:
        """A NAT on the server's network: namespace and number."""
        number = next(self._numbers)
        made, public = self.rig.namespace(f"n{number}"), f"203.0.113.{100 + number}"
        self.rig.on_bridge(self.server, made, "out0", public)
        self.rig.inside_lan(made, gateway)
        self.rig.apply(made, public, kind)
        return made, number

    def behind(self, kind: NatKind) -> str:
        """A host behind one NAT."""
        made, number = self._nat(kind, "10.0.0.1")
        return self.rig.client(f"c{number}", made, "10.0.0.2")

    def behind_two(self, customer: NatKind) -> str:
        """A host behind a NAT behind a carrier's, RFC 6888; 100.64.0.0/24 between them (RFC 6598)."""
        outer, number = self._nat(nat.CGNAT, "100.64.0.1")
        inner = self.rig.client(f"m{number}", outer, "100.64.0.2", nic="out0")
        self.rig.inside_lan(inner, "10.0.0.1")
        self.rig.apply(inner, "100.64.0.2", customer)
        return self.rig.client(f"c{number}", inner, "10.0.0.2")

    def ask(self, client: str) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
        classic = f"import stun; print(stun.get_ip_info(stun_host={SERVERS[0]!r}, stun_port={CLASSIC_PORT})[0])"
        tool = ("turnutils_natdiscovery", "-H", "-m", "-f", "-p", str(BEHAVIOUR_PORT), SERVERS[0])
        return self._start(client, *tool), self._start(client, sys.executable, "-c", classic)

    def close(self) -> None:
        for child in self.children:
            child.kill()
            child.communicate()
        self.rig.close()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Asked]]:
    assert shutil.which("turnutils_natdiscovery"), "coturn is not installed: apt-get install coturn"
    discovery = Discovery(tmp_path_factory.mktemp("stun"))
    try:
        for port in (BEHAVIOUR_PORT, CLASSIC_PORT):
            discovery.serve(port)
        discovery.wait_for_servers(BEHAVIOUR_PORT, CLASSIC_PORT)
        asked = {name: discovery.ask(discovery.behind(kind)) for name, kind in COMBINATIONS.items()}
        asked |= {f"CGNAT, {name}": discovery.ask(discovery.behind_two(kind)) for name, kind in CGNATS.items()}
        asked["UDP blocked"] = discovery.ask(discovery.behind(BLOCKED))
        yield {
            name: Asked(*(child.communicate(timeout=DEADLINE)[0] for child in clients))
            for name, clients in asked.items()
        }
    finally:
        discovery.close()


_WORDS = {
    "Endpoint Independent": _EI,
    "Address Dependent": _AD,
    "Address and Port Dependent": _APD,
}


def verdict(output: str, what: str) -> Dependence | None:
    """Mapping or Filtering as natdiscovery names it; None if it names none."""
    found = re.findall(rf"NAT with ([\w ]+) {what}!", output)
    return _WORDS[found[0]] if len(found) == 1 else None


def behaviour(output: str) -> tuple[Dependence | None, Dependence | None]:
    return verdict(output, "Mapping"), verdict(output, "Filtering")


@pytest.mark.parametrize("name", COMBINATIONS)
def test_rfc5780_finds_the_kind_asked_for(found: dict[str, Asked], name: str) -> None:
    kind, output = COMBINATIONS[name], found[name].behaviour
    assert behaviour(output) == (kind.mapping, kind.filtering), output


@pytest.mark.parametrize("name", COMBINATIONS)
def test_hairpinning_is_seen(found: dict[str, Asked], name: str) -> None:
    """The tool asks from a second socket its first one's public endpoint, which has sent to the server alone: a request
    that turns round comes in only where the filter lets in everyone."""
    kind, output = COMBINATIONS[name], found[name].behaviour
    assert ("successful hairpinning" in output) == (kind.hairpin and kind.filtering is _EI), output


@pytest.mark.parametrize("name", COMBINATIONS)
def test_rfc3489_names_the_kind(found: dict[str, Asked], name: str) -> None:
    """That classification tests the filter first: whoever lets in everyone is a full cone to it."""
    kind = COMBINATIONS[name]
    cones = {_EI: "Full Cone", _AD: "Restric NAT", _APD: "Restric Port NAT"}
    expected = cones[kind.filtering] if kind.mapping is _EI or kind.filtering is _EI else "Symmetric NAT"
    assert found[name].classic.strip() == expected


@pytest.mark.parametrize("name", CGNATS)
def test_behind_two_nats_the_stricter_half_of_each_is_found(found: dict[str, Asked], name: str) -> None:
    kind, output = CGNATS[name], found[f"CGNAT, {name}"].behaviour
    assert behaviour(output) == (max(kind.mapping, nat.CGNAT.mapping, key=STRICTNESS), kind.filtering), output
    assert "reflexive addr: 203.0.113.1" in output, output


STRICTNESS = list(Dependence).index


def test_blocked_udp_is_found(found: dict[str, Asked]) -> None:
    assert found["UDP blocked"].classic.strip() == "Blocked"
    assert behaviour(found["UDP blocked"].behaviour) == (None, None)
    assert "reflexive" not in found["UDP blocked"].behaviour
