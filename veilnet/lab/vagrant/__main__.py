# SPDX-License-Identifier: Apache-2.0
"""For the Vagrantfile: `python -m veilnet.lab.vagrant plan TOPOLOGY --box NAME` prints the plan."""

from __future__ import annotations

import argparse
import json
import sys

from veilnet.lab.journal import LabError
from veilnet.lab.topology import TopologyError, load
from veilnet.lab.vagrant.plan import plan


def main() -> int:
    parser = argparse.ArgumentParser(prog="veilnet.lab.vagrant")
    parser.add_argument("what", choices=["plan"])
    parser.add_argument("topology")
    parser.add_argument("--box", required=True)
    arguments = parser.parse_args()
    try:
        print(json.dumps(plan("lab", load(arguments.topology), arguments.box)))
    except (LabError, TopologyError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
