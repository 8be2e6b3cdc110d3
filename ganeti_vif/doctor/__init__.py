# SPDX-License-Identifier: BSD-2-Clause
"""Conflicts with other software on a node: pure decisions on facts that were read before."""
