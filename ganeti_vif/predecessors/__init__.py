# SPDX-License-Identifier: BSD-2-Clause
"""Settings of snf-network and gnt-networking, read as data and turned into our configuration (pure)."""
