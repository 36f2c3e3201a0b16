# SPDX-License-Identifier: Apache-2.0
"""`veilnet guardian` and `conflux`; what a running node says (`status`, `ping`, `paths`); `node` for administrators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from veilnet.cli import daemon
from veilnet.cli.admin import AdminToken, AsJson, Realm, connect
from veilnet.cli.output import Exit, fail, print_json, print_plain, print_rows
from veilnet.cli.secret_input import read_secret
from veilnet.cli.status_text import status_lines
from veilnet.client.paging import every

STATE_ROOT: Final = Path("/var/lib/veilnet")

Instance = Annotated[str, typer.Option("--instance", envvar="VEILNET_INSTANCE", help="Name of this node here.")]
Nics = Annotated[list[str], typer.Option("--nic", help="Underlay device; may be given again.")]
Token = Annotated[
    str | None, typer.Option("--token", metavar="@FILE|-", help="Enrolment token, first time only; or $VEILNET_TOKEN.")
]
Name = Annotated[str | None, typer.Option("--name", help="Default: this host's name.")]
Addresses = Annotated[list[str] | None, typer.Option("--address", help="Address others use; default: the NIC's.")]
KnockPort = Annotated[
    int | None, typer.Option("--knock-port", min=1, max=65535, help="Default: by chance, then the same.")
]
Device = Annotated[str, typer.Option("--device", help="Overlay device.")]
StateDir = Annotated[
    Path | None, typer.Option("--state-dir", help="Keys and documents; default /var/lib/veilnet/INSTANCE.")
]
AllowGeneric = Annotated[
    bool, typer.Option("--allow-generic", help="Take generic XDP (slower) where native is not to be had.")
]
Dark = Annotated[bool, typer.Option("--dark", help="Drop strangers' datagrams on our ports.")]
AcceptNetworks = Annotated[
    bool,
    typer.Option(
        "--accept-networks",
        envvar="VEILNET_ACCEPT_NETWORKS",
        help="Conflux: route approved networks behind other nodes to them.",
    ),
]
Offered = Annotated[
    list[str] | None,
    typer.Option(
        "--offer-network",
        envvar="VEILNET_OFFER_NETWORKS",
        metavar="PREFIX",
        help="Conflux: be a gateway of this network, or of parts of it, once it is approved; may be given again.",
    ),
]
Foreground = Annotated[bool, typer.Option("--foreground", help="Stay; for service managers.")]
EnrolAgain = Annotated[
    bool, typer.Option("--enrol-again", help="With the token, as the same identity: after it expired or was deleted.")
]
node_app = typer.Typer(help="Enrolled nodes, for administrators.", no_args_is_help=True)


def role_app(role: str, text: str) -> typer.Typer:
    """`up`, `down` and `status` of a role; the two roles differ in nothing else here."""
    app = typer.Typer(help=text, no_args_is_help=True)

    app.command("up")(_up(role))
    app.command()(down)
    app.command()(status)
    return app


def _up(role: str) -> Callable[..., None]:
    def up(  # noqa: PLR0917 - each is an option of the command line
        nic: Nics,
        token: Token = None,
        name: Name = None,
        address: Addresses = None,
        knock_port: KnockPort = None,
        device: Device = "veil0",
        instance: Instance = "default",
        state_dir: StateDir = None,
        allow_generic: AllowGeneric = False,
        dark: Dark = False,
        foreground: Foreground = False,
        accept_networks: AcceptNetworks = False,
        offer_network: Offered = None,
        enrol_again: EnrolAgain = False,
    ) -> None:
        """Enrol if need be, attach the data plane, start the key daemon."""
        from veilnet.cli.bring_up import Wanted, bring_up  # noqa: PLC0415 - bcc loads slowly, and only here

        token_text = read_secret(token, "VEILNET_TOKEN", "enrolment token")
        wanted = Wanted(
            role=role,
            instance=instance,
            state_dir=state_dir or STATE_ROOT / instance,
            nics=tuple(nic),
            addresses=tuple(address or ()),
            knock_port=knock_port,
            device=device,
            name=name,
            allow_generic=allow_generic,
            dark=dark,
            foreground=foreground,
            accept_networks=accept_networks,
            offered=tuple(offer_network or ()),
            enrol_again=enrol_again,
        )
        bring_up(wanted, token_text)

    return up


def down(instance: Instance = "default") -> None:
    """Stop the key daemon, detach, unpin. The identity stays in the state directory."""
    from veilnet.cli.bring_up import take_down  # noqa: PLC0415

    take_down(instance)


def status(instance: Instance = "default", as_json: AsJson = False) -> None:
    """What the running node knows of itself."""
    answer = daemon.ask(instance, {"command": "status"})
    if as_json:
        print_json(answer)
        return
    for line in status_lines(answer):
        print_plain(line)
    for setting in answer.get("networks", {}).get("missing", []):
        print_plain(f"gateway does not forward: {setting} (docs/networks.md)")


def ping(
    name: str,
    instance: Instance = "default",
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Reach another node end to end, through a path of its own if there is none yet."""
    answer = daemon.ask(instance, {"command": "ping", "name": name, "timeout": timeout}, timeout + 5.0)
    if as_json:
        print_json(answer)
    if not answer.get("ok", False):
        fail(f"{name} did not answer within {timeout:g} s", "`veilnet paths` shows what was tried", Exit.UNREACHABLE)
    if not as_json:
        print_plain(f"{name}: {answer['rtt_ms']:.3f} ms")


def paths(instance: Instance = "default", as_json: AsJson = False) -> None:
    """Paths to other nodes, as this node uses them."""
    rows = daemon.ask(instance, {"command": "paths"}).get("paths", [])
    print_rows(rows, ("peer", "hops", "state", "rtt_ms"), as_json=as_json)


@node_app.command("revoke")
def revoke_node(name: str, realm: Realm = None, admin_token: AdminToken = None) -> None:
    """Cut a node (by name or id) off for good: no credential, no edges; its identity does not come back."""
    api = connect(admin_token)
    found = [
        node
        for node in every(api.list_nodes, realm=realm)
        if node["state"] != "revoked" and name in {node["name"], node["id"], node["node_id"]}
    ]
    if len(found) != 1:
        what = "no active node" if not found else f"{len(found)} nodes in different realms"
        fail(f"{what} with the name or id {name}", "see `veilnet node list`, or add --realm", Exit.USAGE)
    api.revoke_node(found[0]["id"])
