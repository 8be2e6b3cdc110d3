# SPDX-License-Identifier: BSD-2-Clause
"""Tests against the kernel: as root, in network namespaces of their own, with real taps, bridges and nftables."""
