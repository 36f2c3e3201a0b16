# SPDX-License-Identifier: Apache-2.0
"""OpenID Connect for people: what the Master verifies, what `veilnet login` asks for.

Bytes and `now` in, values out; only `fetch` speaks HTTP, and only to an issuer that an administrator configured.
"""
