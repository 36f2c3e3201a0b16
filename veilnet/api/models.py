# SPDX-License-Identifier: Apache-2.0
"""Every table, so that one import fills the metadata."""

from __future__ import annotations

from veilnet.api.access.models import AdminToken
from veilnet.api.db import Base
from veilnet.api.nodes.models import Node
from veilnet.api.realms.models import Realm
from veilnet.api.snapshots.models import Snapshot
from veilnet.api.tokens.models import EnrolmentToken
from veilnet.api.topology.models import Edge

__all__ = ["AdminToken", "Base", "Edge", "EnrolmentToken", "Node", "Realm", "Snapshot"]
