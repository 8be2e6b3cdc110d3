# SPDX-License-Identifier: BSD-2-Clause
"""Filter chains and verdict maps: our own decoder reads them, libnftables changes them."""
