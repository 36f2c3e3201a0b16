# SPDX-License-Identifier: Apache-2.0
"""Who may do what: roles x resources x verbs, one table. A grant gives a role everywhere or in one realm."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Verb(StrEnum):
    CREATE = "create"
    READ = "read"
    UPDATE = "update"
    DELETE = "delete"


class Role(StrEnum):
    """In the order of the table's columns."""

    OWNER = "owner"
    ADMIN = "admin"
    OPERATOR = "operator"
    RELAY_OPERATOR = "relay_operator"
    AUDITOR = "auditor"
    READONLY = "readonly"


class Resource(StrEnum):
    """Named as the first part of the resource's path."""

    REALMS = "realms"
    NODES = "nodes"
    GUARDIANS = "guardians"
    ENROLMENT_TOKENS = "enrolment_tokens"
    TOPOLOGY = "topology"
    POLICIES = "policies"
    ADVERTISED_NETWORKS = "advertised_networks"
    DNS = "dns"
    CRYPTO_POSTURE = "crypto_posture"
    DIAGNOSTICS = "diagnostics"
    EVENTS = "events"
    OPERATIONS = "operations"
    WEBHOOKS = "webhooks"
    AUDIT_EVENTS = "audit_events"
    USERS = "users"
    GROUPS = "groups"
    SERVICE_ACCOUNTS = "service_accounts"
    API_TOKENS = "api_tokens"
    IDENTITY_PROVIDERS = "identity_providers"


# owner, admin, operator, relay_operator, auditor, readonly; letters: create, read, update, delete
_TABLE: Final = {
    Resource.REALMS: "crud crud ru r r r",
    Resource.NODES: "crud crud crud r r r",
    Resource.GUARDIANS: "crud crud crud ru r r",
    Resource.ENROLMENT_TOKENS: "crud crud crud - r -",
    Resource.TOPOLOGY: "crud crud crud r r r",
    Resource.POLICIES: "crud crud ru - r r",
    Resource.ADVERTISED_NETWORKS: "crud crud crud - r r",
    Resource.DNS: "crud crud crud - r r",
    Resource.CRYPTO_POSTURE: "crud crud r r r r",
    Resource.DIAGNOSTICS: "crud crud crud cr r r",
    Resource.EVENTS: "crud crud r r r r",
    Resource.OPERATIONS: "crud crud ru r r r",
    Resource.WEBHOOKS: "crud crud - - r -",
    Resource.AUDIT_EVENTS: "r r - - r -",
    Resource.USERS: "crud crud - - r -",
    Resource.GROUPS: "crud crud - - r -",
    Resource.SERVICE_ACCOUNTS: "crud crud - - r -",
    Resource.API_TOKENS: "crud crud - - r -",
    Resource.IDENTITY_PROVIDERS: "crud r - - r -",
}
_LETTERS: Final = {"c": Verb.CREATE, "r": Verb.READ, "u": Verb.UPDATE, "d": Verb.DELETE}


def _allowed() -> frozenset[tuple[Role, Resource, Verb]]:
    return frozenset(
        (role, resource, _LETTERS[letter])
        for resource, row in _TABLE.items()
        for role, letters in zip(Role, row.split(), strict=True)
        for letter in letters.strip("-")
    )


ALLOWED: Final = _allowed()


@dataclass(frozen=True)
class Grant:
    """A role in one realm, or in every realm and in what belongs to none."""

    role: Role
    realm_id: str | None = None


RealmIds = frozenset[str] | None
"""Ids of realms; None is every realm and what belongs to none."""


def realms_of(grants: tuple[Grant, ...], resource: Resource, verb: Verb) -> RealmIds:
    """Where these grants allow it; the empty set is nowhere."""
    found = [grant.realm_id for grant in grants if (grant.role, resource, verb) in ALLOWED]
    return None if None in found else frozenset(realm for realm in found if realm is not None)


def common(one: RealmIds, other: RealmIds) -> RealmIds:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def scope_name(resource: Resource, verb: Verb) -> str:
    """As in `x-required-scope` and in the scopes of a token."""
    return f"{resource}:{verb}"
