# SPDX-License-Identifier: BSD-2-Clause
"""What a network card does by itself, and can be told to leave to the kernel (ethtool)."""

import ctypes
import fcntl
import socket
import struct

from .namespace import Node

SIOCETHTOOL, ETHTOOL_STXCSUM, ETHTOOL_SGSO = 0x8946, 0x17, 0x24


def no_offload(node: Node, device: str) -> None:
    """DEVICE of NODE sends no frame whose checksum is not finished, and cuts none into pieces."""

    def switch() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            for command in (ETHTOOL_STXCSUM, ETHTOOL_SGSO):
                value = ctypes.create_string_buffer(struct.pack("=II", command, 0), 8)
                request = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
                fcntl.ioctl(asking, SIOCETHTOOL, request)

    node.inside(switch)
