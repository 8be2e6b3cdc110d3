# SPDX-License-Identifier: BSD-2-Clause
"""Queue: the other end of netfilter's queues, where NFDHCPD sits on a node (linux/netfilter/nfnetlink_queue.h)."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass

from .namespace import Node

NETLINK_NETFILTER, NFNL_SUBSYS_QUEUE = 12, 3 << 8
PACKET, VERDICT, CONFIG = (NFNL_SUBSYS_QUEUE | kind for kind in range(3))
NFQA_CFG_CMD, NFQA_CFG_PARAMS, BIND, COPY_PACKET = 1, 2, 1, 2
NFQA_PACKET_HDR, NFQA_VERDICT_HDR, NFQA_IFINDEX_INDEV, NFQA_IFINDEX_PHYSINDEV, NFQA_PAYLOAD = 1, 2, 5, 7, 10
DROP, ACCEPT = 0, 1
_HEADER, _NFGENMSG, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBH"), struct.Struct("=HH")


@dataclass(frozen=True)
class Queued:
    """A packet, from its IP header on, and the ifindex of the device (and bridge port) by which it came."""

    queue: int
    device: int
    port: int | None
    packet: bytes


class Queue:
    """Takes every packet of some queues off the node's hands, as NFDHCPD does with those of its clients."""

    def __init__(self, node: Node, numbers: Iterable[int]) -> None:
        self._socket = node.inside(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER))
        self._socket.bind((0, 0))
        for number in numbers:
            self._send(CONFIG, number, NFQA_CFG_CMD, struct.pack("!BxH", BIND, socket.AF_INET))
            self._send(CONFIG, number, NFQA_CFG_PARAMS, struct.pack("!IB", 0xFFFF, COPY_PACKET))

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _send(self, kind: int, queue: int, attribute: int, value: bytes) -> None:
        body = _NFGENMSG.pack(0, 0, socket.htons(queue)) + _ATTRIBUTE.pack(len(value) + 4, attribute) + value
        body += bytes(-len(body) % 4)
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, 1, 0, 0) + body)

    def receive(self, timeout: float) -> Queued | None:
        """The next packet, which goes no further, or None."""
        until = time.monotonic() + timeout
        while select.select([self._socket], [], [], max(0.0, until - time.monotonic()))[0]:
            data = self._socket.recv(1 << 17)
            length, kind, _, _, _ = _HEADER.unpack_from(data)
            if kind == PACKET:
                return self._packet(data[_HEADER.size : length])
            assert kind == 2 and struct.unpack_from("=i", data, _HEADER.size)[0] == 0, data.hex()
        return None

    def _packet(self, body: bytes) -> Queued:
        (queue,) = struct.unpack_from("!H", body, 2)
        found, at = {}, _NFGENMSG.size
        while at + 4 <= len(body):
            size, kind = _ATTRIBUTE.unpack_from(body, at)
            found[kind & 0x3FFF] = body[at + 4 : at + size]
            at += size + 3 & ~3
        number = found[NFQA_PACKET_HDR][:4]
        self._send(VERDICT, queue, NFQA_VERDICT_HDR, struct.pack("!I", DROP) + number)
        port = found.get(NFQA_IFINDEX_PHYSINDEV)
        (device,) = struct.unpack("!I", found[NFQA_IFINDEX_INDEV])
        return Queued(queue, device, struct.unpack("!I", port)[0] if port else None, found[NFQA_PAYLOAD])
