# SPDX-License-Identifier: Apache-2.0
"""Where a Master is and which certificate it shows: `https://192.0.2.1:8443#<SHA-256 in hex>`, one line to pass on.

Without the fragment the system's certificate authorities decide. It is not a secret, but people must get it from
somebody they trust: whoever can change it shows them another Master.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from veilnet.enrolment_token import checked_url

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True)
class MasterAddress:
    url: str
    tls: str | None

    @property
    def text(self) -> str:
        return self.url if self.tls is None else f"{self.url}#{self.tls}"


def read_address(text: str) -> MasterAddress:
    """Raises ValueError."""
    url, hash_sign, fingerprint = text.strip().partition("#")
    if hash_sign and not _FINGERPRINT.fullmatch(fingerprint):
        raise ValueError("behind the # stand the 64 hex digits of the certificate's SHA-256: was it cut while copying?")
    found = checked_url(url)
    if found.startswith("http://") and (urlsplit(found).hostname or "") not in _LOOPBACK:
        raise ValueError("plain http is for a Master on this host only")
    return MasterAddress(found, fingerprint if hash_sign else None)
