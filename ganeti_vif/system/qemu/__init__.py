"""QEMU: its processes, what they hold, and what they say."""
