# SPDX-License-Identifier: Apache-2.0
"""The database as a thing to look after: schema revisions, backup and restore, `master db doctor`."""
