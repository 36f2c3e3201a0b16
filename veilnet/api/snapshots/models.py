# SPDX-License-Identifier: Apache-2.0
"""What nodes are sent, and what has to be signed anew. Rows that say so are written with the change that causes them,
by the events at the end, whoever makes the change: a change that commits is never forgotten, by no replica."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Connection, ForeignKey, Index, Integer, event, insert, inspect, update
from sqlalchemy.orm import Mapped, Mapper, mapped_column

from veilnet.api.db import Base
from veilnet.api.nodes.models import Node
from veilnet.api.realms.models import Realm
from veilnet.api.topology.models import Edge

_SERIAL = BigInteger().with_variant(Integer, "sqlite")


class DirectoryChange(Base):
    """Something that has to be signed anew: a node's record, or the realm's head where `node_id` is NULL."""

    __tablename__ = "directory_changes"

    id: Mapped[int] = mapped_column(_SERIAL, primary_key=True, autoincrement=True)
    realm_id: Mapped[str] = mapped_column(ForeignKey("realms.id"), index=True)
    node_id: Mapped[str | None] = mapped_column(ForeignKey("nodes.id"))


class DirectoryRecord(Base):
    """A node's signed record as it is sent, and the facts that decide who gets it."""

    __tablename__ = "directory_records"
    __table_args__ = (
        Index("ix_directory_records_realm_id_version", "realm_id", "version"),
        Index("ix_directory_records_realm_id_renew_at", "realm_id", "renew_at"),
    )

    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    realm_id: Mapped[str] = mapped_column(ForeignKey("realms.id"))
    version: Mapped[int]
    facts_version: Mapped[int]
    """Version in which the facts last changed: whoever knows an older one may be shown other nodes now."""
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    former: Mapped[list[Any]] = mapped_column(JSON, server_default="[]")
    """`[version, facts]`: other facts, and the version that ended them. Who saw the node by them and was away then is
    told what it is now."""
    content: Mapped[str]
    """SHA-256 of what the entry says beside version and time: the same again is not signed again."""
    signer: Mapped[str]
    """Id of the CA key that signed the entry."""
    gone: Mapped[bool]
    renew_at: Mapped[int]
    """When the certificate is due, unix seconds; of a node that is gone, when nothing of it counts any more."""
    document: Mapped[str]
    """JSON text of the record, sent as it stands."""


class DirectoryHead(Base):
    """A realm's signed head as it is sent."""

    __tablename__ = "directory_heads"

    realm_id: Mapped[str] = mapped_column(ForeignKey("realms.id"), primary_key=True)
    version: Mapped[int]
    policy_version: Mapped[int]
    """Version in which the policy last changed."""
    policy: Mapped[dict[str, Any]] = mapped_column(JSON)
    floor: Mapped[int] = mapped_column(server_default="0")
    """The realm's `version_floor`, once every record is above it."""
    signed_at: Mapped[int]
    """The latest time under which anything of the realm was signed."""
    renew_at: Mapped[int]
    document: Mapped[str]


_NOT_IN_RECORD: Final = {
    "certificate",
    "certificate_not_after",
    "certificate_serial",
    "certificates_until",
    "credential_hash",
    "deleted_at",
    "ephemeral",
    "expires_at",
    "labels",
    "last_seen_at",
    "row_version",
    "software_kernel",
    "software_provider",
    "software_since",
    "software_version",
}
"""Of a node's row; the certificate is made by the publisher itself."""
_NOT_IN_HEAD: Final = {
    "certificate_seconds",
    "ephemeral_seconds",
    "grace_seconds",
    "lifetimes_changed_at",
    "revision",
    "row_version",
    "version_floor",
}


def _mark(connection: Connection, realm_id: str, node_id: str | None) -> None:
    connection.execute(insert(DirectoryChange).values(realm_id=realm_id, node_id=node_id))


def _changed(target: object, ignored: set[str]) -> bool:
    attributes = inspect(target, raiseerr=True).attrs
    return any(item.history.has_changes() for item in attributes if item.key not in ignored)


@event.listens_for(Node, "after_insert")
def _node_added(_: Mapper[Node], connection: Connection, node: Node) -> None:
    _mark(connection, node.realm_id, node.id)


@event.listens_for(Node, "after_update")
def _node_changed(_: Mapper[Node], connection: Connection, node: Node) -> None:
    if _changed(node, _NOT_IN_RECORD):
        _mark(connection, node.realm_id, node.id)


@event.listens_for(Edge, "after_insert")
@event.listens_for(Edge, "after_delete")
def _edge_changed(_: Mapper[Edge], connection: Connection, edge: Edge) -> None:
    for end in (edge.a_id, edge.b_id):
        _mark(connection, edge.realm_id, end)


@event.listens_for(Realm, "after_insert")
def _realm_added(_: Mapper[Realm], connection: Connection, realm: Realm) -> None:
    _mark(connection, realm.id, None)


@event.listens_for(Realm, "after_update")
def _realm_changed(_: Mapper[Realm], connection: Connection, realm: Realm) -> None:
    if _changed(realm, _NOT_IN_HEAD):
        _mark(connection, realm.id, None)
    if inspect(realm, raiseerr=True).attrs.certificate_seconds.history.has_changes():
        alive = (DirectoryRecord.realm_id == realm.id, ~DirectoryRecord.gone)
        connection.execute(update(DirectoryRecord).where(*alive).values(renew_at=0))  # all are looked at again
