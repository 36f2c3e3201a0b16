# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from veilnet.api.db import VersionedEntity

_ALIVE = text("revoked_at IS NULL")
_ENDS = text("expires_at IS NOT NULL")
_DELETED = text("deleted_at IS NOT NULL")


class Node(VersionedEntity):
    """Only public keys stand here. A revoked node stays as a record; its name and addresses are free again."""

    __tablename__ = "nodes"
    __table_args__ = (
        UniqueConstraint("node_id"),
        Index("uq_nodes_alive_name", "realm_id", "name", unique=True, sqlite_where=_ALIVE, postgresql_where=_ALIVE),
        Index("uq_nodes_alive_ipv4", "realm_id", "ipv4", unique=True, sqlite_where=_ALIVE, postgresql_where=_ALIVE),
        Index("uq_nodes_alive_ipv6", "realm_id", "ipv6", unique=True, sqlite_where=_ALIVE, postgresql_where=_ALIVE),
        Index("ix_nodes_certificate_not_after", "certificate_not_after"),
        Index("ix_nodes_expires_at", "expires_at", sqlite_where=_ENDS, postgresql_where=_ENDS),
        Index("ix_nodes_deleted_at", "deleted_at", sqlite_where=_DELETED, postgresql_where=_DELETED),
        Index("ix_nodes_ephemeral", "id", sqlite_where=text("ephemeral = 1"), postgresql_where=text("ephemeral")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    realm_id: Mapped[str] = mapped_column(ForeignKey("realms.id"), index=True)
    token_id: Mapped[str] = mapped_column(ForeignKey("enrolment_tokens.id"))
    node_id: Mapped[str]
    """Node id of the protocol, 32 hexadecimal digits; bound to its key for ever."""
    name: Mapped[str]
    roles: Mapped[list[str]] = mapped_column(JSON)
    ipv4: Mapped[str]
    ipv6: Mapped[str]
    taints: Mapped[list[str]] = mapped_column(JSON, default=list)
    """Granted by an administrator, signed into the certificate."""
    networks: Mapped[list[str]] = mapped_column(JSON, default=list)
    """Approved prefixes behind it, signed into the certificate."""
    certificate: Mapped[dict[str, str]] = mapped_column(JSON)
    certificate_serial: Mapped[int]
    certificate_not_after: Mapped[int]
    certificates_until: Mapped[int] = mapped_column(server_default="0")
    """When the last that was ever issued ends: an older one may end later, if lifetimes were longer then."""
    public_key: Mapped[str]
    """ML-DSA-65, base64."""
    descriptor: Mapped[dict[str, str]] = mapped_column(JSON)
    descriptor_serial: Mapped[int]
    descriptor_expires: Mapped[int]
    credential_hash: Mapped[str]
    created_at: Mapped[int]
    last_seen_at: Mapped[int | None]
    revoked_at: Mapped[int | None]
    approved_at: Mapped[int | None]
    """None: it waits for an administrator and stands in no snapshot."""
    expires_at: Mapped[int | None]
    """When it is to be taken out; its certificates end then at the latest."""
    expired_at: Mapped[int | None]
    """When it was taken out; it keeps name, addresses and edges for when it is renewed."""
    drained_at: Mapped[int | None]
    """From then on no new circuit goes through it."""
    deleted_at: Mapped[int | None]
    """From then on no list shows it. The row goes once nobody can hold a valid certificate of it."""
    ephemeral: Mapped[bool] = mapped_column(default=False)
    """Deleted when it has been away for its realm's `ephemeral_seconds`."""
    labels: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    software_version: Mapped[str | None]
    """These four are the node's own words; nobody has checked them."""
    software_provider: Mapped[str | None]
    software_kernel: Mapped[str | None]
    software_since: Mapped[int | None]
    """When it first said this."""

    @property
    def is_member(self) -> bool:
        """Whether others are told of it: as `MEMBER`."""
        return self.approved_at is not None and self.revoked_at is None and self.expired_at is None


MEMBER = (Node.approved_at.is_not(None), Node.revoked_at.is_(None), Node.expired_at.is_(None))
"""The nodes that other nodes are told of."""
