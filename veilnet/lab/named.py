# SPDX-License-Identifier: Apache-2.0
"""An existing lab by name, of either backend."""

from __future__ import annotations

from veilnet.lab.fleet import Fleet
from veilnet.lab.journal import LabError
from veilnet.lab.lab import Lab
from veilnet.lab.vagrant.fleet import MachineFleet
from veilnet.lab.vagrant.lab import MachineLab, is_one


def any_fleet(name: str) -> Fleet:
    """Raises LabError with the names that there are."""
    lab = Lab.named(name)
    return MachineFleet(MachineLab(name)) if is_one(lab.directory) else Fleet(lab)


def namespace_fleet(name: str, what: str) -> Fleet:
    """For `what` is not to be had of machines. Raises LabError."""
    lab = Lab.named(name)
    if is_one(lab.directory):
        raise LabError(f"lab {name} is of machines; {what} for labs of namespaces")
    return Fleet(lab)
