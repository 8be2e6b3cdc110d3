# SPDX-License-Identifier: BSD-2-Clause
"""QEMU: its processes, what they hold, and what they say."""
