# SPDX-License-Identifier: Apache-2.0
"""Errors of OpenID Connect.

OidcError
├── ProviderError      the provider's documents or answers are not what the standard says, or it can't be reached
├── TokenRefused       an ID token that must not be believed
└── LoginRefused       the provider or the person at it said no, or the login ran out of time
"""

from __future__ import annotations


class OidcError(Exception):
    pass


class ProviderError(OidcError):
    pass


class TokenRefused(OidcError):  # noqa: N818 - what happened, not whose class it is
    pass


class LoginRefused(OidcError):  # noqa: N818
    pass
