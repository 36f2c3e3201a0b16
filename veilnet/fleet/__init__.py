# SPDX-License-Identifier: Apache-2.0
"""A fleet described in one file: `model` reads it, `actual` reads the Master, `plan` compares, `apply` carries out."""
