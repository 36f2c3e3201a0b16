# SPDX-License-Identifier: Apache-2.0
"""Run by `veilnet.api.db.migrate`, which hands its connection over; there is no other way in."""

from __future__ import annotations

from alembic import context

from veilnet.api.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
