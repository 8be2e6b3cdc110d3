# SPDX-License-Identifier: BSD-2-Clause
"""Conflicts with what else is on a node: decided from what was read of it (pure)."""
