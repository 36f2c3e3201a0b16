# SPDX-License-Identifier: Apache-2.0
"""Lengths of time, in seconds."""

from typing import Final

DAY: Final = 86400
