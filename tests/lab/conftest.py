# SPDX-License-Identifier: Apache-2.0
"""Names of labs that are this run's own."""

from __future__ import annotations

import itertools
import os

import pytest

_COUNT = itertools.count()


@pytest.fixture
def lab_name() -> str:
    """A lab name that no other run uses; `run` removes all labs of its prefix whatever happens to pytest."""
    return f"{os.environ.get('VEILNET_LAB_PREFIX') or f'x{os.getpid()}'}t{next(_COUNT)}"
