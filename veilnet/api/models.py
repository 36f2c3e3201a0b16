# SPDX-License-Identifier: Apache-2.0
"""Every table, so that one import fills the metadata."""

from __future__ import annotations

from veilnet.api.access.models import ApiToken
from veilnet.api.accounts.models import Group, GroupMember, ServiceAccount, User
from veilnet.api.audit.models import AuditAnchor, AuditEvent
from veilnet.api.counters.models import Counter
from veilnet.api.db import Base
from veilnet.api.idempotency.models import IdempotencyKey
from veilnet.api.identity.models import IdentityProvider, UsedIdToken
from veilnet.api.networks.models import AdvertisedNetwork
from veilnet.api.nodes.models import Node
from veilnet.api.oauth.models import ServiceAccountSecret
from veilnet.api.operations.models import Operation
from veilnet.api.outbox.models import OutboxEvent
from veilnet.api.policies.models import RealmPolicy
from veilnet.api.realms.models import Realm
from veilnet.api.retention.models import Job
from veilnet.api.rotation.models import CaKey
from veilnet.api.snapshots.models import DirectoryChange, DirectoryHead, DirectoryRecord
from veilnet.api.tokens.models import EnrolmentToken
from veilnet.api.topology.models import Edge
from veilnet.api.upkeep.models import ExpiryNotice
from veilnet.api.webhooks.models import Webhook, WebhookProgress

__all__ = [
    "AdvertisedNetwork",
    "ApiToken",
    "AuditAnchor",
    "AuditEvent",
    "Base",
    "CaKey",
    "Counter",
    "DirectoryChange",
    "DirectoryHead",
    "DirectoryRecord",
    "Edge",
    "EnrolmentToken",
    "ExpiryNotice",
    "Group",
    "GroupMember",
    "IdempotencyKey",
    "IdentityProvider",
    "Job",
    "Node",
    "Operation",
    "OutboxEvent",
    "Realm",
    "RealmPolicy",
    "ServiceAccount",
    "ServiceAccountSecret",
    "UsedIdToken",
    "User",
    "Webhook",
    "WebhookProgress",
]
