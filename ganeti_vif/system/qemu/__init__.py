# SPDX-License-Identifier: BSD-2-Clause
"""QEMU: its processes, the taps that they hold, and the answers of its monitor."""
