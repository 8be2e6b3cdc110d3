"""The whole node: everything that should be here, everything that is, and the way from one to the other."""
