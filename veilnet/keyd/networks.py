# SPDX-License-Identifier: Apache-2.0
"""Networks behind Confluxes (docs/networks.md): which of the approved ones this node uses, and what stands of them in
the data plane. The certificates say what is approved; whom we may talk to and whether we accept decide about the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from veilnet.contract import NETWORKS, PEER_NONE, PEER_SELF, SCOPE_TO
from veilnet.keyd.core import Core, RouteNetworks
from veilnet.keyd.peers import Peers
from veilnet.protocol.networks import NEVER, IpNetwork, inside

MAPPED: Final = IPv6Network("::ffff:0:0/96")
ALL4: Final = IPv4Network("0.0.0.0/0")

Target = tuple[int, int]
Entries = dict[tuple[int, IpNetwork], Target]
HOLE: Final[Target] = (PEER_NONE, 0)
OWN: Final[Target] = (PEER_SELF, 0)


class Networks:
    """`usable_gateway`: whether the directory and the policy let us use a node; `stream`: index of the stream to it, 0
    without one."""

    def __init__(
        self, core: Core, peers: Peers, usable_gateway: Callable[[bytes], bool], stream: Callable[[bytes], int]
    ) -> None:
        self._core, self._peers, self._usable_gateway, self._stream = core, peers, usable_gateway, stream
        self._never = (*NEVER, *core.networks.overlay)
        self._entries: Entries = {}
        self._told: RouteNetworks | None = None
        self.via: dict[IpNetwork, bytes] = {}
        """Accepted networks and their gateways, as last looked at."""

    # ---- what is approved ------------------------------------------------------------------------------------------

    def own(self) -> tuple[IpNetwork, ...]:
        """This node's approved networks that its host offers, as far as they can be used."""
        return tuple(network for network in self._usable(self._approved()) if self._offered(network))

    def unusable(self) -> tuple[IpNetwork, ...]:
        """Approved for this node, but of what is never part of a network."""
        approved = self._approved()
        return tuple(sorted(set(approved) - set(self._usable(approved)), key=str))

    def not_offered(self) -> tuple[IpNetwork, ...]:
        """Approved for this node, but its host's owner has not offered them."""
        return tuple(network for network in self._usable(self._approved()) if not self._offered(network))

    def _approved(self) -> tuple[IpNetwork, ...]:
        node = self._core.node(self._core.own.node_id)
        return node.networks if node is not None and "conflux" in node.roles else ()

    def _offered(self, network: IpNetwork) -> bool:
        return any(inside(network, other) for other in self._core.networks.offered)

    def _usable(self, networks: Iterable[IpNetwork]) -> list[IpNetwork]:
        return [network for network in networks if not any(inside(network, other) for other in self._never)]

    def _gateways(self) -> dict[bytes, list[IpNetwork]]:
        """In the order in which they are chosen when two have the same network."""
        if not self._core.networks.accept:
            return {}
        nodes = sorted((node_id, node) for node_id, node in self._core.directory.nodes.items() if node.networks)
        found = {node_id: self._usable(node.networks) for node_id, node in nodes}
        return {node_id: networks for node_id, networks in found.items() if self._usable_gateway(node_id)}

    # ---- the data plane --------------------------------------------------------------------------------------------

    def desired(self) -> Entries:
        """The whole table. Also looks anew at who is the gateway of what."""
        own, gateways = self.own(), self._gateways()
        self.via = {}
        for node_id, networks in gateways.items():
            for network in networks:
                if network not in own:
                    self.via.setdefault(network, node_id)
        entries = self._scope(PEER_SELF, dict.fromkeys(own, OWN))
        if self.via:
            ways = {network: self._target(node_id) for network, node_id in self.via.items()}
            entries |= self._scope(SCOPE_TO, ways | dict.fromkeys(own, OWN))
        for node_id, networks in gateways.items():
            number = self._peers.number(node_id)
            entries |= self._scope(number, dict.fromkeys(networks, (number, 0)))
        self._entries = self._fitting(entries)
        return self._entries

    def _target(self, gateway: bytes) -> Target:
        return self._peers.number(gateway), self._stream(gateway)

    def _scope(self, scope: int, ways: dict[IpNetwork, Target]) -> Entries:
        """Holes first: what is written in this order never covers what is no part of a network."""
        holes = {hole for network in ways for hole in self._holes(network)}
        entries = {(scope, hole): HOLE for hole in sorted(holes, key=str)}
        return entries | {(scope, network): target for network, target in ways.items()}

    def _holes(self, network: IpNetwork) -> list[IpNetwork]:
        found = [other for other in self._never if inside(other, network)]
        return [ALL4 if hole == MAPPED else hole for hole in found]

    def _fitting(self, entries: Entries) -> Entries:
        if len(entries) <= NETWORKS:
            return entries
        self._core.count("networks_full")
        return dict(list(entries.items())[:NETWORKS])

    def repair(self) -> None:
        """Make the table hold what it should, and tell the host which networks to route."""
        core, wanted = self._core, self.desired()
        held = core.plane.networks()
        for scope, network in sorted(held.keys() - wanted.keys(), key=lambda key: held[key] == HOLE):
            core.plane.remove_network(scope, network)
            core.count("repaired_network")
        for (scope, network), target in sorted(wanted.items(), key=lambda item: item[1] != HOLE):
            if held.get((scope, network)) != target:
                core.plane.put_network(scope, network, peer=target[0], stream=target[1])
                core.count("repaired_network")
        self._tell(RouteNetworks(tuple(self.via), self.own()))

    def _tell(self, wish: RouteNetworks) -> None:
        if wish != self._told:
            self._told = wish
            self._core.actions.append(wish)

    def follow(self, gateway: bytes) -> None:
        """The stream to a gateway came, went, or is another one now."""
        for network, node_id in self.via.items():
            if node_id == gateway and (SCOPE_TO, network) in self._entries:
                peer, stream = self._entries[SCOPE_TO, network] = self._target(gateway)
                self._core.plane.put_network(SCOPE_TO, network, peer=peer, stream=stream)
