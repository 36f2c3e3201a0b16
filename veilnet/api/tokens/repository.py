# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from sqlalchemy import Select

from veilnet.api.db import Repository
from veilnet.api.platform.roles import RealmIds
from veilnet.api.tokens.models import EnrolmentToken


class TokenRepository(Repository[EnrolmentToken]):
    model = EnrolmentToken

    def of_realms(self, realms: RealmIds) -> Select[EnrolmentToken]:
        return self.all() if realms is None else self.all().where(EnrolmentToken.realm_id.in_(realms))
