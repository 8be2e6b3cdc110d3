# SPDX-License-Identifier: BSD-2-Clause
"""Settings of snf-network and gnt-networking as data, and their conversion into our configuration (pure)."""
