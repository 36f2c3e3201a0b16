# SPDX-License-Identifier: Apache-2.0
"""The lab's second backend: members are virtual machines with kernels of their own. `docs/lab-vagrant.md`."""
