# SPDX-License-Identifier: BSD-2-Clause
"""The networks of a Ganeti node: docs/architecture.md tells which room is for what."""
