# SPDX-License-Identifier: BSD-2-Clause
"""VirtualCable: a machine of the laboratory as a guest, whose network card is a real tap of its node."""

import subprocess
import sys
from contextlib import ExitStack

from .namespace import PATIENCE, Node
from .tap import Tap

_COPY = """\
import os, select, sys
ends = [int(word) for word in sys.argv[1:]]
while True:
    ready, _, _ = select.select([0, *ends], [], [])
    if 0 in ready:
        break
    for end in ready:
        try:
            frame = os.read(end, 70000)
        except BlockingIOError:
            continue
        try:
            os.write(ends[end == ends[0]], frame)
        except OSError:
            pass
"""
"""What QEMU does for a guest: carry frames between two devices. A frame to a device that is down is lost."""


class VirtualCable:
    """Between the tap TAP in NODE, made as Ganeti makes it, and the card CARD in GUEST, which is a tap as well.

    TAP is down until somebody attaches it. Both go with this object, or with the process that made it. OFFLOADS if the
    guest leaves checksums and segments to the node, and takes such frames: a virtio card, and a guest that uses it.
    """

    def __init__(self, node: Node, tap: str, guest: Node, card: str, *, offloads: bool = False) -> None:
        with ExitStack() as stack:
            ends = [
                stack.enter_context(Tap(machine, name=name, vnet_hdr=True))
                for machine, name in ((node, tap), (guest, card))
            ]
            for end in ends if offloads else ():
                end.take_unfinished()
            descriptors = [end.fd for end in ends]
            self._copier = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _COPY, *map(str, descriptors)],
                stdin=subprocess.PIPE,
                pass_fds=descriptors,
            )

    def __enter__(self) -> "VirtualCable":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unplug it: both devices go."""
        assert self._copier.stdin
        self._copier.stdin.close()
        self._copier.wait(PATIENCE)
