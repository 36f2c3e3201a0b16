# SPDX-License-Identifier: Apache-2.0
"""nftables' part: what is refused, and source NAT for what the translator leaves to the kernel (TCP and the rest).

One table of our own, replaced in one transaction. TCP is mapped by conntrack, which keeps the port where it can and
lets in only answers: address-and-port-dependent filtering whatever the kind says.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from veilnet.lab.nat.kinds import Firewall
from veilnet.lab.nat.run import run

TABLE = "veilnet_nat"
_ERRORS = (
    "icmp type { destination-unreachable, time-exceeded, parameter-problem } drop",
    "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } drop",
)
_ICMP6_INFO = "icmpv6 type { echo-request, echo-reply } drop"


def _refused(kind: Firewall) -> tuple[list[str], list[str]]:
    """(rules for what is forwarded, rules for what the node itself sends and takes)."""
    forwarded = ["meta l4proto udp drop"] if not kind.udp else []
    own: list[str] = []
    if not kind.icmp:
        forwarded += ["meta l4proto { icmp, ipv6-icmp } drop"]
        own += ["meta l4proto icmp drop", _ERRORS[1], _ICMP6_INFO]
    elif not kind.icmp_errors:
        forwarded += _ERRORS
        own += _ERRORS
    return forwarded, own


def _chain(name: str, hook: str, rules: list[str]) -> list[str]:
    return [f"chain {name} {{", f"type filter hook {hook};", *rules, "}"]


def _install(namespace: str, chains: list[str]) -> None:
    """Replace our table by one of these chains, or remove it if there are none."""
    text = [f"table inet {TABLE} {{}}", f"delete table inet {TABLE}"]
    if chains:
        text += [f"table inet {TABLE} {{", *chains, "}"]
    run(namespace, "nft", "-f", "-", text="\n".join(text) + "\n")


def _blocks(kind: Firewall, first: list[str]) -> list[str]:
    forwarded, own = _refused(kind)
    chains = _chain("forward", "forward priority filter", [*first, *forwarded]) if first or forwarded else []
    if own:
        chains += _chain("output", "output priority filter", own) + _chain("input", "input priority filter", own)
    return chains


def block(namespace: str, kind: Firewall) -> None:
    """Make a router without NAT refuse what `kind` says; `Firewall()` takes the table away."""
    _install(namespace, _blocks(kind, []))


def masquerade(namespace: str, outside: str, public: IPv4Address, kind: Firewall) -> None:
    """The kernel's half of a NAT. UDP and pings bypass conntrack: the translator has their state."""
    untracked = ["ip protocol udp notrack", "icmp type { echo-request, echo-reply } notrack"]
    others = f'oifname "{outside}" meta nfproto ipv4 meta l4proto != {{ udp, icmp }} ip saddr != {public}'
    _install(
        namespace,
        [
            *_chain("raw_in", "prerouting priority raw", untracked),
            *_chain("raw_out", "output priority raw", untracked),
            *["chain source {", "type nat hook postrouting priority srcnat;", f"{others} snat ip to {public}", "}"],
            *_blocks(kind, [f'iifname "{outside}" meta nfproto ipv4 ct state new drop']),
        ],
    )
