"""Filter chains and verdict maps: read by a decoder of ours, changed by libnftables."""
