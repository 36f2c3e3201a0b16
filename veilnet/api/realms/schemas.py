# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated

from pydantic import AfterValidator, Field

from veilnet.api.schemas import Body, Label, Out


def _usable(network: IPv4Network) -> IPv4Network:
    if not 8 <= network.prefixlen <= 28:
        raise ValueError("the range must be between /8 and /28")
    if network.is_loopback or network.is_multicast or network.is_link_local or network.is_unspecified:
        raise ValueError("the range must hold ordinary unicast addresses")
    return network


class RealmSettings(Body):
    min_guardians: Annotated[int, Field(ge=0, le=8)] = 2
    rekey_seconds: Annotated[int, Field(ge=1, le=3600)] = 120
    idle_seconds: Annotated[int, Field(ge=10, le=86400)] = 300


class RealmCreate(Body):
    name: Label
    ipv4_range: Annotated[IPv4Network, AfterValidator(_usable)] = IPv4Network("10.90.0.0/16")
    settings: RealmSettings = RealmSettings()


class RealmOut(Out):
    id: str
    name: str
    realm: str
    ca_fingerprint: str
    ipv4_range: IPv4Network
    ipv6_prefix: IPv6Network
    settings: RealmSettings
    version: int
    created_at: datetime
