# SPDX-License-Identifier: Apache-2.0
"""Faults of a lab, on demand: `words` says what a command means; the others carry it out, and take it back."""
