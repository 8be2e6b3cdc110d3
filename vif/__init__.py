"""One NIC: what it is, what it needs from the node, and how it is attached and detached."""
