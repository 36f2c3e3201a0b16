# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: VeilNet beside its peers, in one run on one machine. `python -m bench --help`."""
