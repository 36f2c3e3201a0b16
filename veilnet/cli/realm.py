# SPDX-License-Identifier: Apache-2.0
"""`veilnet realm` and `veilnet topology`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer
import yaml

from veilnet.cli.admin import AdminToken, AsJson, Realm, connect, the_realm
from veilnet.cli.output import Exit, fail, print_json, print_rows, say
from veilnet.client.api import EdgeCreate, RealmCreate, RealmSettings
from veilnet.client.paging import every

app = typer.Typer(help="Realms: one network, one CA, one address range.", no_args_is_help=True)
topology_app = typer.Typer(help="Which nodes are neighbours.", no_args_is_help=True)

_COLUMNS = ("name", "id", "ipv4_range", "ipv6_prefix", "version", "created_at")
MinGuardians = Annotated[int | None, typer.Option("--min-guardians", help="Relays on every path, at least.")]
RekeySeconds = Annotated[int | None, typer.Option("--rekey-seconds", help="Life of a key.")]
IdleSeconds = Annotated[int | None, typer.Option("--idle-seconds", help="Silence after which a link dissolves.")]
_MASTERS = "master"


def _seconds(text: str | None) -> str | None:
    if text is not None and text != _MASTERS and not text.isdecimal():
        raise typer.BadParameter(f"a number of seconds, or `{_MASTERS}` for the Master's own")
    return text


def _lifetime(name: str, what: str) -> Any:
    return typer.Option(f"--{name}-seconds", metavar="SECONDS|master", callback=_seconds, help=what)


Certificate = Annotated[str | None, _lifetime("certificate", "Life of a certificate: a revoked node counts no longer.")]
Grace = Annotated[str | None, _lifetime("grace", "For which a node may come back after its certificate's end.")]
Ephemeral = Annotated[str | None, _lifetime("ephemeral", "Away for so long, an ephemeral node is deleted.")]


def _given(lifetimes: dict[str, str | None], **settings: int | None) -> RealmSettings:
    given: Any = {name: value for name, value in settings.items() if value is not None}
    for name, text in lifetimes.items():
        if text is not None:
            given[f"{name}_seconds"] = None if text == _MASTERS else int(text)
    return cast(RealmSettings, given)


@app.command()
def create(  # noqa: PLR0917 - each is an option of the command line
    name: str,
    ipv4: Annotated[str, typer.Option("--ipv4", help="Overlay range, /8 to /28.")] = "10.90.0.0/16",
    min_guardians: MinGuardians = None,
    rekey_seconds: RekeySeconds = None,
    idle_seconds: IdleSeconds = None,
    certificate_seconds: Certificate = None,
    grace_seconds: Grace = None,
    ephemeral_seconds: Ephemeral = None,
    admin_token: AdminToken = None,
    as_json: AsJson = False,
) -> None:
    """Make a realm with a CA key of its own."""
    lives = {"certificate": certificate_seconds, "grace": grace_seconds, "ephemeral": ephemeral_seconds}
    settings = _given(lives, min_guardians=min_guardians, rekey_seconds=rekey_seconds, idle_seconds=idle_seconds)
    body: RealmCreate = {"name": name, "ipv4_range": ipv4, "settings": settings}
    print_rows([connect(admin_token).create_realm(body)], _COLUMNS, as_json=as_json)


@app.command()
def settings(  # noqa: PLR0917 - each is an option of the command line
    name: Annotated[str | None, typer.Argument(help="Not needed while there is only one.")] = None,
    min_guardians: MinGuardians = None,
    rekey_seconds: RekeySeconds = None,
    idle_seconds: IdleSeconds = None,
    certificate_seconds: Certificate = None,
    grace_seconds: Grace = None,
    ephemeral_seconds: Ephemeral = None,
    admin_token: AdminToken = None,
) -> None:
    """Show a realm's settings, or change those that are given; nodes follow within seconds."""
    api = connect(admin_token)
    name = the_realm(api, name)
    current = api.get_realm_settings(name)
    lives = {"certificate": certificate_seconds, "grace": grace_seconds, "ephemeral": ephemeral_seconds}
    changes = _given(lives, min_guardians=min_guardians, rekey_seconds=rekey_seconds, idle_seconds=idle_seconds)
    if changes:
        current = api.replace_realm_settings(name, {**current, **changes}, if_match=api.etag)
    print_json(current)


@topology_app.command()
def link(a: str, b: str, realm: Realm = None, admin_token: AdminToken = None) -> None:
    """Let two nodes (by name or id) be neighbours."""
    api = connect(admin_token)
    api.create_edge(the_realm(api, realm), {"a": a, "b": b})


@topology_app.command()
def unlink(a: str, b: str, realm: Realm = None, admin_token: AdminToken = None) -> None:
    """Take an edge away."""
    api = connect(admin_token)
    realm = the_realm(api, realm)
    for edge in every(api.list_edges, realm):
        if {a, b} <= {value for end in ("a", "b") for value in edge[end].values()}:
            api.delete_edge(realm, edge["id"], if_match="*")
            return
    fail(f"{a} and {b} are not neighbours", "see `veilnet topology show`")


@topology_app.command()
def show(realm: Realm = None, admin_token: AdminToken = None, as_json: AsJson = False) -> None:
    """All edges of the realm."""
    api = connect(admin_token)
    listed = every(api.list_edges, the_realm(api, realm))
    edges = sorted(listed, key=lambda edge: (edge["a"]["name"], edge["b"]["name"]))
    rows = edges if as_json else [{"a": edge["a"]["name"], "b": edge["b"]["name"]} for edge in edges]
    print_rows(rows, ("a", "b"), as_json=as_json)


@topology_app.command()
def apply(file: Path, realm: Realm = None, admin_token: AdminToken = None) -> None:
    """Make the realm's edges exactly the `links: [[a, b], ...]` of a YAML file."""
    edges = _links(file)
    api = connect(admin_token)
    api.replace_topology(the_realm(api, realm), {"edges": edges}, if_match="*")
    say(f"{len(edges)} edges")


def _links(file: Path) -> list[EdgeCreate]:
    try:
        document: Any = yaml.safe_load(file.read_text())
    except OSError as error:
        fail(f"{file}: {error.strerror}", code=Exit.USAGE)
    except yaml.YAMLError as error:
        fail(f"{file} is not YAML: {error}", code=Exit.USAGE)
    links = document.get("links") if isinstance(document, dict) else None
    if not isinstance(links, list) or any(not isinstance(pair, list) or len(pair) != 2 for pair in links):
        fail(f"{file}: needs `links:`, a list of pairs like [a, b]", code=Exit.USAGE)
    return [{"a": str(one), "b": str(other)} for one, other in links]
