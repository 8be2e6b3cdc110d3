"""A NIC's life on this node: attached, brought in step, handed over, detached."""
