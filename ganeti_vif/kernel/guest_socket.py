# SPDX-License-Identifier: BSD-2-Clause
"""Receiving from and sending to the guest of one tap: a packet socket, which sees frames before bridge and filters.

Each tap has its own socket: a guest that floods fills only its own queue, and frames of other devices cost nothing.
The socket is opened without a protocol, gets its filter and is then bound, so the kernel does not wait for a grace
period. Closing it waits 15 to 20 ms for all CPUs (packet_release, synchronize_net), so the server closes it in another
thread.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv6Network

from ganeti_vif.engine.failure import Failure, Gone

ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING, SO_ATTACH_FILTER = 263, 23, 26
_ANCILLARY = 0xFFFFF000
_PACKET_TYPE, _VLAN_PRESENT = _ANCILLARY + 4, _ANCILLARY + 48
"""SKF_AD_OFF with SKF_AD_PKTTYPE and SKF_AD_VLAN_TAG_PRESENT (linux/filter.h)."""
_OUTGOING = 4

LONGEST = 2048
"""Bytes of a frame that are read. No request that we answer is longer."""
_WAITING = 32768
"""Bytes of frames that may wait for one tap; the kernel doubles it. About forty frames; a guest sends one and waits."""

_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE, _LOAD_HALF_X = 0x20, 0x28, 0x30, 0x48
_HEADER_LENGTH, _EQUAL, _SET, _RETURN = 0xB1, 0x15, 0x45, 0x06
_AND = 0x54
_INSTRUCTION = struct.Struct("=HBBI")
_SOURCE6, _DESTINATION6, _SENDER = 22, 38, 6
"""Where a frame has its IPv6 source, its IPv6 destination, and its Ethernet source."""
_HALF, _GROUP = 64, 32
"""The bits of an address that are compared for many addresses at once, and for how many: a jump has one byte."""
LARGEST = 190 * _INSTRUCTION.size
"""Bytes of a filter that the kernel takes while it still has the last one: net.core.optmem_max is 20 KiB until Linux
6.6, and its own form of a filter is six times as long."""
_Line = tuple[int, int, int, int]
"""Code, jump if true, jump if false, value."""
_TOLD = 14 + 1232
"""Bytes of a refused frame that are read: an ICMPv6 error has no more than 1280 bytes (RFC 4443, 2.4)."""


def _program(*steps: tuple[int, int, str | None, str | None] | str) -> bytes:
    """A filter program (linux/filter.h) from steps (code, value, label if true, label if false) and labels."""
    labels: dict[str, int] = {}
    instructions: list[tuple[int, int, str | None, str | None]] = []
    for step in steps:
        if isinstance(step, str):
            labels[step] = len(instructions)
        else:
            instructions.append(step)
    code = b""
    for at, (operation, value, if_true, if_false) in enumerate(instructions):
        jumps = [labels[label] - at - 1 if label else 0 for label in (if_true, if_false)]
        code += _INSTRUCTION.pack(operation, *jumps, value)
    return code


def _lines(*lines: _Line) -> bytes:
    return b"".join(_INSTRUCTION.pack(*line) for line in lines)


def interesting(own_server: int, shared: Iterable[int] = ()) -> bytes:
    """The socket filter that accepts the frames that we may answer, or that tell of addresses: DHCP, DHCPv6, router and
    neighbour solicitations, neighbour advertisements, ARP requests for OWN_SERVER, and all ARP whose sender has an
    address in SHARED (IPv4 addresses as numbers). It drops our own frames and those with a VLAN tag. What is added to
    it decides about the guest's own IPv6 packets (TCP, UDP, pings): NOTHING_ELSE, or what refused() returns."""
    return _program(
        (_LOAD_HALF, _PACKET_TYPE, None, None),
        (_EQUAL, _OUTGOING, "drop", None),
        (_LOAD_HALF, _VLAN_PRESENT, None, None),
        (_EQUAL, 0, None, "drop"),
        (_LOAD_HALF, 12, None, None),
        (_EQUAL, 0x0800, "ip", None),
        (_EQUAL, 0x86DD, "ip6", None),
        (_EQUAL, 0x0806, "arp", "drop"),
        "ip",
        (_LOAD_BYTE, 23, None, None),
        (_EQUAL, socket.IPPROTO_UDP, None, "drop"),
        (_LOAD_HALF, 20, None, None),
        (_SET, 0x1FFF, "drop", None),
        (_HEADER_LENGTH, 14, None, None),
        (_LOAD_HALF_X, 16, None, None),
        (_EQUAL, 67, "take", "drop"),
        "ip6",
        (_LOAD_BYTE, 20, None, None),
        (_EQUAL, socket.IPPROTO_TCP, "own", None),
        (_EQUAL, socket.IPPROTO_ICMPV6, "icmp6", None),
        (_EQUAL, socket.IPPROTO_UDP, None, "drop"),
        (_LOAD_HALF, 56, None, None),
        (_EQUAL, 547, "take", "own"),
        "icmp6",
        (_LOAD_BYTE, 54, None, None),
        (_EQUAL, 133, "take", None),
        (_EQUAL, 135, "take", None),
        (_EQUAL, 136, "take", None),
        (_EQUAL, 128, "own", "drop"),
        "arp",
        (_LOAD_WORD, 28, None, None),
        *((_EQUAL, address, "take", None) for address in shared),
        (_LOAD_HALF, 20, None, None),
        (_EQUAL, 1, None, "drop"),
        (_LOAD_WORD, 38, None, None),
        (_EQUAL, own_server, "take", "drop"),
        "take",
        (_RETURN, LONGEST, None, None),
        "drop",
        (_RETURN, 0, None, None),
        "own",
    )


_DROPPED = (_RETURN, 0, 0, 0)
NOTHING_ELSE = _lines(_DROPPED)
"""Drops the guest's own packets."""
_UNTOLD = _lines(
    (_LOAD_WORD, 0, 0, _SOURCE6),
    (_EQUAL, 0, 1, 0),  # the unspecified address, or as good as that
    _DROPPED,
    (_AND, 0, 0, 0xFFC00000),
    (_EQUAL, 0, 1, 0xFE800000),  # a link-local address: guests speak of it in neighbour discovery
    _DROPPED,
    (_LOAD_BYTE, 0, 0, _DESTINATION6),
    (_EQUAL, 0, 1, 0xFF),  # to a group
    _DROPPED,
    (_LOAD_BYTE, 0, 0, 0),
    (_SET, 0, 1, 1),  # to a group's MAC
    _DROPPED,
)
"""Drops what no ICMPv6 error may answer (RFC 4443, 2.4 e)."""


def refused(mac: bytes, allowed: Iterable[IPv6Network]) -> bytes:
    """Accepts packets of the guest with this MAC whose IPv6 source is in none of the prefixes ALLOWED. What is allowed
    comes first, so that the guest's ordinary packets cost the kernel some nanoseconds."""
    groups: dict[bytes, list[IPv6Network]] = {}
    lines: list[_Line] = []
    for prefix in allowed:
        if prefix.prefixlen > _HALF:
            groups.setdefault(prefix.network_address.packed[:8], []).append(prefix)
        else:
            lines += _within(prefix, (4, 0), [_DROPPED])
    for prefixes in groups.values():  # most addresses of a guest are of one /64, which is compared once
        for some in (prefixes[at : at + _GROUP] for at in range(0, len(prefixes), _GROUP)):
            those = [line for one in some for line in _within(one, (12, 8), [_DROPPED])]
            lines += _within(some[0].supernet(new_prefix=_HALF), (4, 0), those)
    own = _lines(
        (_LOAD_WORD, 0, 0, _SENDER),
        (_EQUAL, 0, 2, int.from_bytes(mac[:4], "big")),
        (_LOAD_HALF, 0, 0, _SENDER + 4),
        (_EQUAL, 1, 0, int.from_bytes(mac[4:], "big")),
        _DROPPED,
        (_RETURN, 0, 0, _TOLD),
    )
    return _lines(*lines) + _UNTOLD + own


def _within(prefix: IPv6Network, places: Iterable[int], then: list[_Line]) -> list[_Line]:
    """Go to THEN if the source is in PREFIX, as far as the words at PLACES of the address say, and else behind it."""
    network, mask = prefix.network_address.packed, prefix.netmask.packed
    lines: list[_Line] = []
    for at in places:
        wanted, bits = (int.from_bytes(one[at : at + 4], "big") for one in (network, mask))
        if bits:
            some = [] if bits == 0xFFFFFFFF else [(_AND, 0, 0, bits)]
            lines += [(_LOAD_WORD, 0, 0, _SOURCE6 + at), *some, (_EQUAL, 0, 0, wanted)]
    end = len(lines) + len(then)
    jumps = [(code, 0, end - at - 1 if code == _EQUAL else 0, value) for at, (code, _, _, value) in enumerate(lines)]
    return [*jumps, *then]


class GuestSocket:
    """A socket to the guest behind the device with this ifindex; PROGRAM is its socket filter.

    Raises Gone if there is no such device, and Failure if the socket cannot be opened or bound.
    """

    __slots__ = ("_socket",)

    def __init__(self, index: int, program: bytes) -> None:
        one = _open()
        try:
            one.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WAITING)
            _attach(one, program)
            _bind(one, index)
        except OSError as error:
            one.close()
            if error.errno in (errno.ENODEV, errno.ENXIO):
                raise Gone(f"the device with index {index} is gone", "note: nothing") from error
            what = f"the device with index {index} cannot be listened to: {error.strerror}"
            raise Failure(what, "see: journalctl -u ganeti-vif-responder") from error
        self._socket = one

    def fileno(self) -> int:
        return self._socket.fileno()

    def listen_for(self, program: bytes) -> None:
        """Receive what PROGRAM accepts from now on. It takes some microseconds. Raises Failure if it is refused: there
        is no memory for it."""
        try:
            _attach(self._socket, program)
        except OSError as error:
            what = f"a tap cannot be listened to: {error.strerror}"
            raise Failure(what, "see: journalctl -u ganeti-vif-responder") from error

    def receive(self) -> bytes | None:
        """One frame, or None if no frame waits. Raises OSError if the socket is closed."""
        try:
            return self._socket.recv(LONGEST)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.EBADF:
                raise
            # The device went down or was removed since the last frame (ENETDOWN, ENXIO, ENODEV). The kernel reports
            # this once. Frames of such a device are lost anyway.
            return None

    def send(self, frame: bytes) -> bool:
        """Send a whole Ethernet frame. Returns whether the device accepted it."""
        for _ in range(2):
            try:
                self._socket.send(frame)
                return True
            except OSError as error:
                # If the device went down and up again, the first call still reports that it went down.
                if error.errno != errno.ENETDOWN:
                    return False
        return False

    def close(self) -> None:
        """Close the socket. Takes 15 to 20 ms."""
        self._socket.close()


def probe() -> None:
    """Raises Failure if this process cannot open packet sockets."""
    _open().close()


def _open() -> socket.socket:
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    except OSError as error:
        do = "note: it needs CAP_NET_RAW, and more open files than there are taps: start it by its unit, or as root"
        raise Failure(f"no packet socket can be opened: {error.strerror}", do) from error


def _attach(one: socket.socket, program: bytes) -> None:
    buffer = ctypes.create_string_buffer(program, len(program))
    one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(buffer)))


class _Address(ctypes.Structure):
    """struct sockaddr_ll (packet(7)). Python's bind() takes a name, and another device may have that name by now."""

    _fields_ = (
        ("family", ctypes.c_uint16),
        ("protocol", ctypes.c_uint16),
        ("index", ctypes.c_int32),
        ("rest", ctypes.c_uint8 * 12),
    )


_LIBC = ctypes.CDLL(None, use_errno=True)


def _bind(one: socket.socket, index: int) -> None:
    address = _Address(family=socket.AF_PACKET, protocol=socket.htons(ETH_P_ALL), index=index)
    if _LIBC.bind(one.fileno(), ctypes.byref(address), ctypes.sizeof(address)):
        number = ctypes.get_errno()
        raise OSError(number, errno.errorcode.get(number, "error"))
