# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's other entries: one executable that is linked into each hook directory, and what it does for each hook."""
