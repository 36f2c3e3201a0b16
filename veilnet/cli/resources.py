# SPDX-License-Identifier: Apache-2.0
"""Which command group an operation of the API belongs to. A new resource is one line here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import typer

from veilnet.cli.operation import make_command
from veilnet.client.api import Api


@dataclass(frozen=True)
class Resource:
    """`noun` as the operations have it: `list_users`, `get_user`, ... become `veilnet user list`, `get`, ..."""

    noun: str
    plural: str
    columns: tuple[str, ...]
    help: str = ""
    group: str = ""
    """The group of commands, if it is not called as the noun."""
    named: bool = True
    """Rows have names, which may stand for their ids."""
    more: dict[str, str] = field(default_factory=dict)
    """Further commands and their operations."""

    @property
    def command(self) -> str:
        return self.group or self.noun.replace("_", "-")

    def operations(self) -> Iterator[tuple[str, str]]:
        """(command, operation) of every operation of this noun."""
        for operation in vars(Api):
            for noun in (self.noun, self.plural):
                verb = operation.removesuffix(f"_{noun}")
                if verb != operation and "_" not in verb and operation not in OF_NODES:
                    yield verb, operation
        yield from self.more.items()


OF_NODES = frozenset({"enrol_node", "get_snapshot", "put_descriptor", "put_networks", "put_software"})
"""What nodes ask for themselves."""

_PERSON = ("name", "id", "state", "created_at")
RESOURCES = (
    Resource("realm", "realms", ("name", "id", "ipv4_range", "ipv6_prefix", "version", "created_at")),
    Resource("realm_ca", "realm_cas", ("keys", "remaining"), "The realm's CA key and its rotation.", named=False),
    Resource("node", "nodes", ("name", "id", "roles", "taints", "ipv4", "state", "connected", "last_seen_at"),
             more={"taints": "get_node_taints", "set-taints": "replace_node_taints"}),
    Resource("guardian", "guardians", ("name", "id", "ipv4", "state", "connected", "last_seen_at")),
    Resource("enrolment_token", "enrolment_tokens", ("id", "roles", "node_name", "used", "usage_limit", "state",
             "expires_at"), group="token", named=False),
    Resource("advertised_network", "advertised_networks", ("prefix", "id", "node_id", "state", "proposed", "conflicts"),
             "Networks behind nodes.", group="network", named=False),
    Resource("edge", "edges", ("id", "created_at"), group="topology", named=False,
             more={"replace": "replace_topology"}),
    Resource("realm_settings", "", ("min_guardians", "rekey_seconds", "idle_seconds",
             "certificate_seconds", "grace_seconds", "ephemeral_seconds"), "A realm's settings.",
             named=False),
    Resource("realm_dns", "", ("suffix", "records"), "A realm's names (docs/dns.md).", named=False),
    Resource("crypto_posture", "crypto_posture_nodes", ("name", "id", "certificate", "certificate_not_after",
             "software", "last_seen_at"), "Certificates and CA keys that nodes rely on.", named=False),
    Resource("policy", "policies", ("id", "document"), "Who may talk to whom.", named=False),
    Resource("user", "users", _PERSON, "People."),
    Resource("group", "groups", ("name", "id", "description", "created_at"), "Groups of people, and their grants."),
    Resource("group_member", "group_members", ("user_id", "id", "created_at"), "Who is in a group.", named=False),
    Resource("service_account", "service_accounts", _PERSON, "Programs that administer."),
    Resource("api_token", "api_tokens", ("name", "id", "state", "expires_at", "last_used_at"), "Bearers of the API."),
    Resource("audit_event", "audit_events", ("seq", "created_at", "actor_name", "action", "subject"),
             "Who changed what.", group="audit", named=False),
    Resource("event", "events", (), "What happens, as it happens.", named=False),
    Resource("operation", "operations", ("id", "kind", "state", "done", "total", "error"), "Long work.", named=False),
    Resource("service_account_secret", "service_account_secrets", ("id", "created_at"),
             "What service accounts log in with.", named=False),
    Resource("identity_provider", "identity_providers", ("name", "id", "issuer", "client_id"),
             "Where people log in."),
    Resource("own_token", "own_tokens", ("name", "id", "state", "expires_at"), "The caller's own bearers.",
             named=False),
    Resource("webhook", "webhooks", ("name", "id", "url", "enabled", "failures"), "Who is told of events.",
             more={"rotate-secret": "rotate_webhook_secret"}),
)  # fmt: skip


def add_resources(app: typer.Typer, known: dict[str, typer.Typer]) -> None:
    """Every operation that has no command of its own becomes one; `known` are the groups written by hand."""
    for resource in RESOURCES:
        group = known.get(resource.command)
        if group is None:
            group = known[resource.command] = typer.Typer(help=resource.help, no_args_is_help=True)
            app.add_typer(group, name=resource.command)
        taken = {found.name or getattr(found.callback, "__name__", "") for found in group.registered_commands}
        lister = f"list_{resource.plural}" if resource.named else None
        for name, operation in resource.operations():
            if name not in taken:
                group.command(name)(make_command(operation, resource.columns, lister))
