# SPDX-License-Identifier: BSD-2-Clause
"""Private networks of the whole cluster, by Ganeti's remote API (RAPI)."""
