# SPDX-License-Identifier: BSD-2-Clause
"""What a guest may send: the rules of its filter, and what they decide of a packet (pure)."""
