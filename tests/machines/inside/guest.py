# SPDX-License-Identifier: BSD-2-Clause
"""Runs in the machine: guest.py TAP NETNS MAC, a guest as QEMU would be one.

It holds a tap that it made as Ganeti does, and the guest's card, eth0 in the network namespace NETNS (which is there
already); what one is given the other sends. With its end both go. It tells systemd when both are there.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 2, 0x1000
CLONE_NEWNET = 0x40000000


def tap(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return descriptor


def card(namespace: str, mac: str) -> int:
    """The guest's end, in its namespace; this process stays there."""
    with open(f"/run/netns/{namespace}", "rb") as place:
        if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns into {namespace}")
    descriptor = tap("eth0")
    subprocess.run(["ip", "link", "set", "eth0", "address", mac, "up"], check=True)
    return descriptor


def ready() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])


def relay(one: int, other: int) -> None:
    """Frames between the two, for ever. A side that is down takes none and gives none."""
    poll = select.poll()
    peers = {one: other, other: one}
    for descriptor in peers:
        poll.register(descriptor, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            with contextlib.suppress(OSError):  # down, or full: a cable loses the frame
                os.write(peers[descriptor], os.read(descriptor, 65536))


if __name__ == "__main__":
    outside = tap(sys.argv[1])
    guest = card(sys.argv[2], sys.argv[3])
    ready()
    relay(outside, guest)
