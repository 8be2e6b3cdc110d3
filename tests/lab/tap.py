# SPDX-License-Identifier: BSD-2-Clause
"""Tap: the node's end of a virtual machine's network card.  PacketSocket: ears and mouth on any interface of a node."""

import errno
import fcntl
import os
import socket
import struct

from .events import wait_for
from .frames import FramePort
from .namespace import PATIENCE, Node

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
VNET_HEADER = bytes(10)  # struct virtio_net_hdr, all zero: nothing is offloaded
TUNSETOFFLOAD, TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 = 0x400454D0, 1, 2, 4

ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 8, 23
AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata: status, len, snaplen, mac, net, tci, tpid
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 1 << 4, 1 << 6


class Tap(FramePort):
    """A tap made as Ganeti makes it for QEMU: named by the kernel, not persistent, down, with a random MAC.

    Whoever holds its descriptor is the virtual machine: what the node sends to the tap is received here, what is sent
    here comes into the node from the tap.  The tap is there until the last copy of the descriptor is closed.
    """

    def __init__(self, node: Node, *, name: str = "tap%d", vnet_hdr: bool = True) -> None:
        self.node = node
        self.vnet_hdr = vnet_hdr
        self._fd = -1
        self.name, self.ifindex = node.inside(lambda: self._open(name))

    def _open(self, pattern: str) -> tuple[str, int]:
        self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        flags = IFF_TAP | IFF_NO_PI | (IFF_VNET_HDR if self.vnet_hdr else 0)
        try:
            answer = fcntl.ioctl(self._fd, TUNSETIFF, struct.pack("16sH22x", pattern.encode(), flags))
            name = answer[:16].rstrip(b"\0").decode()
            return name, socket.if_nametoindex(name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Tap":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Tap({self.name!r}, ifindex {self.ifindex})"

    @property
    def fd(self) -> int:
        """The descriptor, to be given to QEMU (Popen's pass_fds)."""
        if self._fd < 0:
            raise ValueError(f"{self} is closed or in other hands")
        return self._fd

    def fileno(self) -> int:
        return self.fd

    def send(self, frame: bytes, header: bytes = VNET_HEADER) -> None:
        """Let the virtual machine send a frame, with what its card says beside it (struct virtio_net_hdr).

        OSError EIO: the node's end of the tap is down.  EINVAL: the kernel does not take such a HEADER.
        """
        os.write(self.fd, header + frame if self.vnet_hdr else frame)

    def _read(self) -> bytes | None:
        frame = os.read(self.fd, 70000)
        return frame[len(VNET_HEADER) :] if self.vnet_hdr else frame

    def take_unfinished(self) -> None:
        """Let the node send us frames without their checksums, and unsegmented, as QEMU does once its guest agrees."""
        fcntl.ioctl(self.fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)

    def exists(self) -> bool:
        """Whether this very tap is still there; another that got its name since is not it."""
        return self.node.ifindex(self.name) == self.ifindex

    def wait_gone(self, *, timeout: float = PATIENCE) -> None:
        """Return once the tap is gone: the kernel takes it away a moment after its holder died."""
        wait_for(self.node, lambda: not self.exists(), f"{self} is gone", timeout=timeout)

    def hand_over(self) -> None:
        """Close our copy of the descriptor: from now on the tap lives as long as the process that was given it."""
        self.close()

    def close(self) -> None:
        """Close our copy of the descriptor; the tap vanishes if nobody else has one."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class PacketSocket(FramePort):
    """Sees every frame that comes in by one interface of a node (with `outgoing`, also those it sends); sends frames.

    Frames sent by the node's own stack may have no checksums yet (the veth or tap would fill them in).
    """

    def __init__(self, node: Node, interface: str, *, outgoing: bool = False) -> None:
        self.node = node
        self.interface = interface
        # Protocol 0 receives nothing, so no frame of another interface slips in before bind().
        self._socket = node.inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0))
        try:
            self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, int(not outgoing))
            self._socket.bind((interface, ETH_P_ALL))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> "PacketSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PacketSocket({self.node!r}, {self.interface!r})"

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def _read(self) -> bytes | None:
        """The frame as on the wire: the kernel takes a VLAN tag out and tells it beside, here it goes back in."""
        try:
            frame, beside, _, _ = self._socket.recvmsg(70000, socket.CMSG_SPACE(AUXDATA.size))
        except OSError as error:
            if error.errno == errno.ENETDOWN:  # told once when the interface goes down; it may come up again
                return None
            raise
        for level, kind, data in beside:
            if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                status, _, _, _, _, tci, tpid = AUXDATA.unpack(data[: AUXDATA.size])
                if status & TP_STATUS_VLAN_VALID:
                    tag = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                    return frame[:12] + struct.pack("!HH", tag, tci) + frame[12:]
        return frame

    def close(self) -> None:
        self._socket.close()
