# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated

from pydantic import AfterValidator, Field

from veilnet.api.schemas import Body, Label, Out
from veilnet.api.times import DAY
from veilnet.protocol.names import ADDRESSES_MAX, DOMAIN_PATTERN, RECORD_MAX, RECORDS_MAX, usable
from veilnet.protocol.networks import IpAddress, check_range


def _usable(network: IPv4Network) -> IPv4Network:
    check_range(network)
    return network


class RealmSettings(Body):
    """The last three are the Master's own where they are null. `certificate_seconds`: for so long a node that was
    revoked counts where the Master can't be reached; `grace_seconds`: after its certificate's end, for which a node
    may come back without enrolling again; `ephemeral_seconds`: away for so long, an ephemeral node is deleted."""

    min_guardians: Annotated[int, Field(ge=0, le=8)] = 2
    rekey_seconds: Annotated[int, Field(ge=1, le=3600)] = 120
    idle_seconds: Annotated[int, Field(ge=10, le=86400)] = 300
    certificate_seconds: Annotated[int, Field(ge=600, le=366 * DAY)] | None = None
    grace_seconds: Annotated[int, Field(ge=0, le=366 * DAY)] | None = None
    ephemeral_seconds: Annotated[int, Field(ge=60, le=366 * DAY)] | None = None


class RealmConfig(Body):
    """What a merge patch of a realm is laid over."""

    name: Label
    settings: RealmSettings


class RealmSettingsPatch(Body):
    min_guardians: int | None = None
    rekey_seconds: int | None = None
    idle_seconds: int | None = None
    certificate_seconds: int | None = None
    grace_seconds: int | None = None
    ephemeral_seconds: int | None = None


class RealmPatch(Body):
    """A setting of null takes its default."""

    name: Label | None = None
    settings: RealmSettingsPatch | None = None


def _host(address: IpAddress) -> IpAddress:
    if not usable(address):
        raise ValueError("loopback, link-local, multicast, reserved and mapped addresses are no host's")
    return address


_DOMAIN = rf"^{DOMAIN_PATTERN}$"
Suffix = Annotated[str, Field(max_length=RECORD_MAX, pattern=_DOMAIN)]
RecordName = Annotated[str, Field(max_length=RECORD_MAX, pattern=_DOMAIN)]
Host = Annotated[IpAddress, AfterValidator(_host)]
Hosts = Annotated[list[Host], Field(min_length=1, max_length=ADDRESSES_MAX)]


class RealmDns(Body):
    """Every node has the name `<name>.<suffix>`. `suffix` null is `<realm>.internal`; `records` are further names under
    it, by their part before the suffix."""

    suffix: Suffix | None = None
    records: Annotated[dict[RecordName, Hosts], Field(max_length=RECORDS_MAX)] = Field(default_factory=dict)


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
