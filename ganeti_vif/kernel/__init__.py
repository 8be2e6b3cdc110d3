"""The kernel: one module for each of its interfaces."""
