# SPDX-License-Identifier: Apache-2.0
"""Scenarios: a timeline of faults in a lab, what is expected of the traffic meanwhile, and a report of what happened.

model ◄── parse (YAML)     probe: numbered packets, sent and received with their times
  ▲                          │ traces
judge ◄── traces ◄───────────┘
  │ verdicts
report (one HTML page)     run: puts them together in a lab
"""
