# SPDX-License-Identifier: Apache-2.0
"""The caller of one request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from veilnet.api.nodes.repository import Caller
from veilnet.api.platform.roles import Grant, RealmIds, Resource, Verb, common, realms_of, scope_name

Kind = Literal["api_token", "user", "service_account", "node", "anonymous"]


@dataclass(frozen=True)
class Principal:
    """`layers` must all allow: a token's own grants, and those of the person or account that it acts for."""

    kind: Kind
    id: str
    name: str
    layers: tuple[tuple[Grant, ...], ...] = ()
    scopes: frozenset[str] | None = None
    """Scope names that the credential was narrowed to; None is not narrowed."""
    token_id: str | None = None
    node: Caller | None = None
    source: str = ""
    """Address that the request came from."""

    def within(self, grants: tuple[Grant, ...]) -> Principal:
        """The same caller, bounded by these grants too."""
        return replace(self, layers=(*self.layers, grants))

    def realms(self, resource: Resource, verb: Verb) -> RealmIds:
        """Where the caller may do this; the empty set is nowhere."""
        if not self.layers or (self.scopes is not None and scope_name(resource, verb) not in self.scopes):
            return frozenset()
        found: RealmIds = None
        for grants in self.layers:
            found = common(found, realms_of(grants, resource, verb))
        return found

    def may(self, resource: Resource, verb: Verb, realm_id: str | None) -> bool:
        realms = self.realms(resource, verb)
        return realms is None or (realm_id is not None and realm_id in realms)


def anonymous(source: str) -> Principal:
    return Principal("anonymous", f"address:{source}", source, source=source)
