# SPDX-License-Identifier: Apache-2.0
"""What operators and their tools look at: a listener of its own with health and metrics, and tracing of requests."""
