# SPDX-License-Identifier: Apache-2.0
"""Client of the Master's REST API: `transport` carries requests, `api` is generated from docs/openapi.json."""
