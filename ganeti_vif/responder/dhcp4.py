# SPDX-License-Identifier: BSD-2-Clause
"""DHCP (RFC 2131): reading a guest's request, and making the answer."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from ganeti_vif.responder.boot import NOTHING, Told4
from ganeti_vif.responder.lease import UNASKED, Code, Lease
from ganeti_vif.responder.options import option4
from ganeti_vif.responder.packet import ANY4, BROADCAST, EVERYBODY4, Malformed, udp4

CLIENT_PORT, SERVER_PORT = 68, 67
_BOOTP = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE = b"\x63\x82\x53\x63"
_REQUEST, _REPLY, _ETHERNET, _TO_ALL = 1, 2, 1, 0x8000
_PAD, _END = 0, 255
_NO_COOKIE = bytes(4)
_SMALLEST = 300
"""The smallest BOOTP message in bytes (RFC 1542, 2.1): old relays and clients drop smaller ones."""
_VENDOR_FIELD = 64
"""Bytes of the field that is all the room for options in a BOOTP message (RFC 951, 3)."""
_LEAST_SIZE, _MOST_SIZE = 576, 1500
"""Bytes of the IP datagrams that every client accepts (RFC 2131, 2), and that every link carries."""


class Type(IntEnum):
    """Message types (RFC 2132, 9.6), and BOOTP for a message without a type (RFC 951)."""

    BOOTP, DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(9)


_MESSAGE_TYPES = {kind: option4(Code.MESSAGE_TYPE, bytes((kind,))) for kind in Type}
_SERVER_ID = bytes((Code.SERVER_ID, 4))
"""The beginning of the option, before the address."""


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
    """The request in a UDP payload. Raises Malformed if it is no DHCP or BOOTP request of an Ethernet card."""
    if len(payload) < _BOOTP.size:
        raise Malformed("shorter than a DHCP message")
    fields = _BOOTP.unpack_from(payload)
    operation, hardware, length, _, transaction, _, flags, client, _, _, relay, chaddr, sname, file, cookie = fields
    if relay != ANY4:
        raise Malformed("relayed: a tap has one guest, and that needs no relay")
    if operation != _REQUEST or hardware != _ETHERNET or length != 6:
        raise Malformed("no DHCP request of an Ethernet card")
    if cookie == _NO_COOKIE:  # its client knows no options
        return Request(Type.BOOTP, transaction, flags, client, chaddr[:6], {})
    if cookie != _COOKIE:
        raise Malformed("a message with options of another kind")
    found: dict[int, bytes] = {}
    _collect(found, payload[_BOOTP.size :])
    overload = found.get(Code.OVERLOAD, b"\0")
    if overload[-1:] in (b"\1", b"\3"):
        _collect(found, file)
    if overload[-1:] in (b"\2", b"\3"):
        _collect(found, sname)
    kind = found.get(Code.MESSAGE_TYPE)
    if kind is None:
        return Request(Type.BOOTP, transaction, flags, client, chaddr[:6], found)
    if len(kind) != 1 or kind[0] == Type.BOOTP:
        raise Malformed("a message type that does not exist")
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
            # There is one server and one address, so it may be leased without a second round (RFC 4039).
            return Type.ACK if request.options.get(Code.RAPID_COMMIT) == b"" else Type.OFFER
        case Type.BOOTP:
            return Type.BOOTP if request.client in (ANY4, lease.address) else None
        case Type.REQUEST:
            # A client in SELECTING or INIT-REBOOT names the address in an option. One in RENEWING or REBINDING uses
            # it as its source (RFC 2131, 4.3.2).
            wanted = {request.address(Code.REQUESTED) or ANY4, request.client} - {ANY4}
            if not wanted:
                raise Malformed("a request for no address")
            return Type.ACK if wanted == {lease.address} else Type.NAK
        case Type.INFORM:
            # The filter drops what a guest sends from any other address.
            return Type.ACK if request.client in (ANY4, lease.address) else None
        case Type.DECLINE | Type.RELEASE:
            return None
    raise Malformed(f"message type {request.type}")


def frame(kind: Type, request: Request, lease: Lease, router: bytes) -> bytes:
    """The frame that answers REQUEST with a message of type KIND, from the MAC ROUTER."""
    informs = request.type == Type.INFORM
    target, hardware = _destination(kind, request, lease)
    booting = lease.boot.told4(request.options) if lease.boot and kind is not Type.NAK else NOTHING
    options = b"".join(_of_bootp(lease) if kind is Type.BOOTP else _answered(kind, request, lease, booting))
    payload = _BOOTP.pack(
        _REPLY,
        _ETHERNET,
        6,
        0,
        request.transaction,
        0,
        request.flags,
        request.client if kind is Type.ACK or kind is Type.BOOTP else ANY4,
        ANY4 if informs or kind is Type.NAK else lease.address,
        booting.server,
        ANY4,
        request.hardware,
        b"",
        booting.file,
        _COOKIE,
    )
    payload = (payload + options + b"\xff").ljust(_SMALLEST, b"\0")
    return udp4((router, hardware), (lease.server, target), (SERVER_PORT, CLIENT_PORT), payload)


def _destination(kind: Type, request: Request, lease: Lease) -> tuple[bytes, bytes]:
    """The IP and MAC address that the answer goes to (RFC 2131, 4.1)."""
    if kind is Type.NAK:
        return EVERYBODY4, BROADCAST
    if request.client == lease.address:
        return lease.address, request.hardware
    if request.flags & _TO_ALL or request.type == Type.INFORM:
        return EVERYBODY4, BROADCAST
    return lease.address, request.hardware


def _answered(kind: Type, request: Request, lease: Lease, booting: Told4) -> Iterator[bytes]:
    """The options of the answer, as many as fit into the client's largest message."""
    yield _MESSAGE_TYPES[kind]
    yield _SERVER_ID + lease.server
    room = _room(request) - 3 - 6
    if (client := request.options.get(Code.CLIENT_ID)) and len(client) <= 255:  # RFC 6842
        yield option4(Code.CLIENT_ID, client)
        room -= 2 + len(client)
    if kind is Type.NAK:
        return
    if request.type != Type.INFORM:
        yield lease.times
        room -= len(lease.times)
    yield booting.forced
    room -= len(booting.forced)
    if request.type == Type.DISCOVER and kind is Type.ACK:
        yield option4(Code.RAPID_COMMIT, b"")
        room -= 2
    asked = request.options.get(Code.PARAMETERS, UNASKED)
    for code, encoded in (*booting.options.items(), *lease.options.items()):
        if code in asked and len(encoded) <= room:
            yield encoded
            room -= len(encoded)


def _of_bootp(lease: Lease) -> Iterator[bytes]:
    """The options of a BOOTP answer, as many as fit into its vendor field. A client takes the address for ever."""
    room = _VENDOR_FIELD - len(_COOKIE) - 1
    for code, encoded in lease.options.items():
        if code in UNASKED and len(encoded) <= room:
            yield encoded
            room -= len(encoded)


def _room(request: Request) -> int:
    """The bytes that the options may take."""
    most = int.from_bytes(request.options.get(Code.MAX_SIZE, b""), "big")
    return min(max(most, _LEAST_SIZE), _MOST_SIZE) - 28 - _BOOTP.size - 1
