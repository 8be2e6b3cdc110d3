"""Conflicts with what else is on a node: decided from what was read of it (pure)."""
