# SPDX-License-Identifier: Apache-2.0
"""Other people's relays and tunnels, as the benchmarks start them."""
