"""What a node needs before any VM: private networks, public links."""
