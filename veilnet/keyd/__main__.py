# SPDX-License-Identifier: Apache-2.0
"""Entry of `python -m veilnet.keyd`."""

import sys

from veilnet.keyd.main import main

sys.exit(main())
