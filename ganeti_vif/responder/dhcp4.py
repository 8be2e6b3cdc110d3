# SPDX-License-Identifier: BSD-2-Clause
"""DHCP (RFC 2131): reading a guest's request, and making the answer."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from ganeti_vif.responder.lease import Code, Lease
from ganeti_vif.responder.options import option4
from ganeti_vif.responder.packet import ANY4, BROADCAST, EVERYBODY4, Malformed, udp4

CLIENT_PORT, SERVER_PORT = 68, 67
_BOOTP = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE = b"\x63\x82\x53\x63"
_REQUEST, _REPLY, _ETHERNET, _TO_ALL = 1, 2, 1, 0x8000
_PAD, _END = 0, 255
_SMALLEST = 300
"""The smallest BOOTP message in bytes (RFC 1542, 2.1): old relays and clients drop smaller ones."""
_LEAST_SIZE, _MOST_SIZE = 576, 1500
"""Bytes of the IP datagrams that every client accepts (RFC 2131, 2), and that every link carries."""


class Type(IntEnum):
    """Message types (RFC 2132, 9.6)."""

    DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)


@dataclass(frozen=True, slots=True)
class Request:
    """A client's message. OPTIONS are by code; the parts of one option are joined."""

    type: int
    transaction: int
    flags: int
    client: bytes
    hardware: bytes
    options: Mapping[int, bytes]

    def address(self, code: int) -> bytes | None:
        """The address in the option CODE, or None without the option. Raises Malformed if it is no address."""
        value = self.options.get(code)
        if value is not None and len(value) != 4:
            raise Malformed(f"option {code} is no address")
        return value


def parse(payload: bytes) -> Request:
    """The request in a UDP payload. Raises Malformed if it is no DHCP request of an Ethernet card."""
    if len(payload) < _BOOTP.size:
        raise Malformed("shorter than a DHCP message")
    fields = _BOOTP.unpack_from(payload)
    operation, hardware, length, _, transaction, _, flags, client, _, _, relay, chaddr, sname, file, cookie = fields
    if relay != ANY4:
        raise Malformed("relayed: a tap has one guest, and that needs no relay")
    if operation != _REQUEST or hardware != _ETHERNET or length != 6 or cookie != _COOKIE:
        raise Malformed("no DHCP request of an Ethernet card")
    found: dict[int, bytes] = {}
    _collect(found, payload[_BOOTP.size :])
    overload = found.get(Code.OVERLOAD, b"\0")
    if overload[-1:] in (b"\1", b"\3"):
        _collect(found, file)
    if overload[-1:] in (b"\2", b"\3"):
        _collect(found, sname)
    kind = found.get(Code.MESSAGE_TYPE, b"")
    if len(kind) != 1:
        raise Malformed("no message type")
    return Request(kind[0], transaction, flags, client, chaddr[:6], found)


def _collect(found: dict[int, bytes], data: bytes) -> None:
    """Add the options in DATA to FOUND. Two options of one code are two parts of one value (RFC 3396)."""
    at, end = 0, len(data)
    while at < end:
        code = data[at]
        if code == _END:
            return
        if code == _PAD:
            at += 1
            continue
        if at + 1 >= end or at + 2 + data[at + 1] > end:
            raise Malformed(f"option {code} runs past the end")
        value = data[at + 2 : at + 2 + data[at + 1]]
        found[code] = found[code] + value if code in found else value
        at += 2 + data[at + 1]


def reply(request: Request, lease: Lease) -> Type | None:
    """The type of the answer to REQUEST, or None for no answer. Raises Malformed if the request makes no sense."""
    server = request.address(Code.SERVER_ID)
    if server is not None and server != lease.server:
        return None  # the client has chosen another server
    match request.type:
        case Type.DISCOVER:
            return Type.OFFER
        case Type.REQUEST:
            # A client in SELECTING or INIT-REBOOT names the address in an option. One in RENEWING or REBINDING uses
            # it as its source (RFC 2131, 4.3.2).
            wanted = {request.address(Code.REQUESTED) or ANY4, request.client} - {ANY4}
            if not wanted:
                raise Malformed("a request for no address")
            return Type.ACK if wanted == {lease.address} else Type.NAK
        case Type.INFORM:
            return Type.ACK
        case Type.DECLINE | Type.RELEASE:
            return None
    raise Malformed(f"message type {request.type}")


def frame(kind: Type, request: Request, lease: Lease, router: bytes) -> bytes:
    """The frame that answers REQUEST with a message of type KIND, from the MAC ROUTER."""
    informs = request.type == Type.INFORM
    target, hardware = _destination(kind, request, lease)
    options = b"".join(_answered(kind, request, lease))
    payload = _BOOTP.pack(
        _REPLY,
        _ETHERNET,
        6,
        0,
        request.transaction,
        0,
        request.flags,
        request.client if kind is Type.ACK else ANY4,
        ANY4 if informs or kind is Type.NAK else lease.address,
        ANY4,
        ANY4,
        request.hardware,
        b"",
        b"",
        _COOKIE,
    )
    payload = (payload + options + b"\xff").ljust(_SMALLEST, b"\0")
    return udp4((router, hardware), (lease.server, target), (SERVER_PORT, CLIENT_PORT), payload)


def _destination(kind: Type, request: Request, lease: Lease) -> tuple[bytes, bytes]:
    """The IP and MAC address that the answer goes to (RFC 2131, 4.1)."""
    if kind is Type.NAK:
        return EVERYBODY4, BROADCAST
    if request.client != ANY4:
        return request.client, request.hardware
    if request.flags & _TO_ALL or request.type == Type.INFORM:
        return EVERYBODY4, BROADCAST
    return lease.address, request.hardware


def _answered(kind: Type, request: Request, lease: Lease) -> Iterator[bytes]:
    """The options of the answer, as many as fit into the client's largest message."""
    yield option4(Code.MESSAGE_TYPE, bytes((kind,)))
    yield option4(Code.SERVER_ID, lease.server)
    room = _room(request) - 3 - 6
    if (client := request.options.get(Code.CLIENT_ID)) and len(client) <= 255:  # RFC 6842
        yield option4(Code.CLIENT_ID, client)
        room -= 2 + len(client)
    if kind is Type.NAK:
        return
    if request.type != Type.INFORM:
        yield lease.times
        room -= len(lease.times)
    asked = request.options.get(Code.PARAMETERS)
    for code, encoded in lease.options.items():
        if (asked is None or code in asked) and len(encoded) <= room:
            yield encoded
            room -= len(encoded)


def _room(request: Request) -> int:
    """The bytes that the options may take."""
    most = int.from_bytes(request.options.get(Code.MAX_SIZE, b""), "big")
    return min(max(most, _LEAST_SIZE), _MOST_SIZE) - 28 - _BOOTP.size - 1
