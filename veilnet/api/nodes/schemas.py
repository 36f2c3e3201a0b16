# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from veilnet.api.schemas import Out


class NodeOut(Out):
    id: str
    realm_id: str
    node_id: str
    name: str
    roles: list[str]
    ipv4: IPv4Address
    ipv6: IPv6Address
    state: Literal["active", "revoked"]
    connected: bool
    certificate_expires_at: datetime
    descriptor_expires_at: datetime
    created_at: datetime
    last_seen_at: datetime | None
    revoked_at: datetime | None


class DescriptorOut(Out):
    serial: int
    expires_at: datetime
