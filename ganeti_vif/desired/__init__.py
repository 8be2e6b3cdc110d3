# SPDX-License-Identifier: BSD-2-Clause
"""What a NIC needs on a node, as the engine's objects; and what stands against it (pure)."""
