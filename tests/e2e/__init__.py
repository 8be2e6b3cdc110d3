# SPDX-License-Identifier: BSD-2-Clause
"""Real Ganeti, real QEMU: a cluster on this machine, in namespaces. See docs/testing.md."""
