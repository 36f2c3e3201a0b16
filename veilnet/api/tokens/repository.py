# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import Select

from veilnet.api.db import Repository
from veilnet.api.tokens.models import EnrolmentToken


class TokenRepository(Repository[EnrolmentToken]):
    model = EnrolmentToken

    def of_realm(self, realm_id: str | None) -> Select[EnrolmentToken]:
        query = self.all()
        return query if realm_id is None else query.where(EnrolmentToken.realm_id == realm_id)
