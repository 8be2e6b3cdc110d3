"""Settings of snf-network and gnt-networking, read as data and turned into our configuration (pure)."""
