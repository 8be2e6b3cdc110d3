# SPDX-License-Identifier: BSD-2-Clause
"""One NIC: what Ganeti says of it, what it needs on a node, and what stands against it (pure)."""
