"""One module for each outside thing: netlink, nftables, sysctl, Open vSwitch, packets, records, the lock.

They read the outside into the engine's types and make the engine's changes. They decide nothing.
"""
