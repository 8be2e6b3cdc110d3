# SPDX-License-Identifier: BSD-2-Clause
"""Filter chains and verdict maps: read by a decoder of ours, changed by libnftables."""
