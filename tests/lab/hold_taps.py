# SPDX-License-Identifier: BSD-2-Clause
"""Runs in a node: opens so many taps and says their names; then closes each that it is told to. See holder.py."""

import fcntl
import os
import resource
import struct
import sys

TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x0002, 0x1000, 0x4000

limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
taps = {}
for _ in range(int(sys.argv[1])):
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    answer = fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", b"tap%d", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    taps[answer[:16].rstrip(b"\0").decode()] = descriptor
print(*taps, flush=True)
for line in sys.stdin:
    os.close(taps.pop(line.strip()))
    print(line.strip(), flush=True)
