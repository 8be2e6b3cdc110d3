# SPDX-License-Identifier: BSD-2-Clause
"""DHCPv6 (RFC 8415) for one guest: name servers on request, the guest's one address if it gets it by DHCPv6, and the
prefixes that are delegated to it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from ganeti_vif.config.model import Dhcpv6, Told
from ganeti_vif.responder.boot import Boot, boot
from ganeti_vif.responder.options import names, option6
from ganeti_vif.responder.packet import Malformed
from ganeti_vif.responder.reach import reached
from ganeti_vif.responder.router import dhcpv6, has_router, own_address
from nfdhcpd_bridge.reading import Reading

CLIENT_PORT, SERVER_PORT = 546, 547
_HEADER = 4


class Type(IntEnum):
    """Message types (RFC 8415, 7.3)."""

    SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE = range(1, 10)
    INFORMATION_REQUEST = 11


class Code(IntEnum):
    """Options (RFC 8415, 21; 23 and 24: RFC 3646; 31: RFC 4075; 39: RFC 4704; 56: RFC 5908)."""

    CLIENT_ID, SERVER_ID, IA_NA, IA_TA, IA_ADDRESS, ASKED = 1, 2, 3, 4, 5, 6
    STATUS, RAPID_COMMIT, VENDOR_CLASS, NAMESERVERS, SEARCH, IA_PD, IA_PREFIX, REFRESH = 13, 14, 16, 23, 24, 25, 26, 32
    SNTP, CLIENT_NAME, NTP = 31, 39, 56


class Status(IntEnum):
    """Status codes (RFC 8415, 21.13)."""

    SUCCESS, NO_ADDRESS, NO_BINDING, NOT_ON_LINK, NO_PREFIX = 0, 2, 3, 4, 6


_INSIDE: Mapping[int, Code] = {
    Code.IA_NA: Code.IA_ADDRESS,
    Code.IA_TA: Code.IA_ADDRESS,
    Code.IA_PD: Code.IA_PREFIX,
}
"""What an identity association has inside."""
_TO_US = {Type.REQUEST, Type.RENEW, Type.RELEASE, Type.DECLINE}
"""Messages that must name a server."""
_WITH_ADDRESS = {Type.SOLICIT, Type.REQUEST, Type.RENEW, Type.REBIND}
_STATEFUL = {*_TO_US, Type.SOLICIT, Type.CONFIRM, Type.REBIND}


@dataclass(frozen=True, slots=True)
class Request:
    """A client's message. IDENTITIES are its identity associations in their order: (code, IAID, addresses). Instead of
    addresses, those for delegation (IA_PD) have prefixes: a byte with the length before each."""

    type: int
    transaction: bytes
    options: Mapping[int, bytes]
    identities: tuple[tuple[int, bytes, tuple[bytes, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server that the guest of one tap sees. ADDRESS is None if it gives no address. BOOT depends on the request.

    PREFIXES are delegated, each with a byte for its length before it. TIMES are T1, T2 and the lifetime, in seconds.
    INFORMATION has encoded options by code.
    """

    identifier: bytes
    address: bytes | None
    prefixes: tuple[bytes, ...] = ()
    times: tuple[int, int, int]
    information: Mapping[int, bytes]
    boot: Boot | None = None


def server(binding: Reading, told: Told, mac: bytes, *, routed: bool) -> Server | None:
    """The server for the guest of BINDING. Its identifier is made from MAC. None without DHCPv6 or an IPv6 prefix.

    The MAC of a routed tap is the same on every node, so the guest can renew its lease with any node.
    """
    mode = dhcpv6(binding, told)
    if mode is Dhcpv6.OFF or binding.subnet6 is None:
        return None
    own = own_address(binding) if mode is Dhcpv6.STATEFUL else None
    with_router = has_router(binding, routed=routed)
    servers = reached(told.nameservers, binding.subnet6, routed=with_router)
    information: dict[int, bytes] = {Code.NAMESERVERS: b"".join(servers), Code.SEARCH: names(told.search)}
    information |= _time_servers(reached(told.ntp, binding.subnet6, routed=with_router))
    information |= {number: value for (version, number), value in told.options if version == 6}
    return Server(
        identifier=struct.pack("!HH", 3, 1) + mac,  # DUID-LL, Ethernet (RFC 8415, 11.4)
        address=own.packed if own else None,
        prefixes=tuple(bytes((one.prefixlen,)) + one.network_address.packed for one in binding.delegated),
        times=(told.renewal_time, told.rebinding_time, told.lease_time),
        information={code: option6(code, value) for code, value in information.items() if value},
        boot=boot(told, 6),
    )


def _time_servers(servers: list[bytes]) -> dict[int, bytes]:
    """Time servers in both forms: RFC 4075, which clients ask for still, and RFC 5908 (each in a suboption 1)."""
    return {Code.SNTP: b"".join(servers), Code.NTP: b"".join(option6(1, one) for one in servers)}


def parse(payload: bytes) -> Request:
    """The message in a UDP payload. Raises Malformed if it is not well-formed."""
    if len(payload) < _HEADER:
        raise Malformed("shorter than a DHCPv6 message")
    options: dict[int, bytes] = {}
    identities = []
    for code, value in _options(payload, _HEADER):
        options[code] = value
        if code in (Code.IA_NA, Code.IA_TA, Code.IA_PD):
            head = 4 if code == Code.IA_TA else 12
            if len(value) < head:
                raise Malformed("a short identity association")
            inner = [_inner(code, part) for number, part in _options(value, head) if number == _INSIDE[code]]
            identities.append((code, value[:4], tuple(inner)))
    return Request(payload[0], payload[1:4], options, tuple(identities))


def _inner(code: int, part: bytes) -> bytes:
    """The address, or the prefix with its length, in PART of an association CODE (RFC 8415, 21.6, 21.22)."""
    found, whole = (part[8:25], 17) if code == Code.IA_PD else (part[:16], 16)
    if len(found) < whole:
        raise Malformed("a short address")
    return found


def _options(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at < len(data):
        if at + 4 > len(data):
            raise Malformed("a cut option")
        code, length = struct.unpack_from("!HH", data, at)
        if at + 4 + length > len(data):
            raise Malformed(f"option {code} runs past the end")
        yield code, data[at + 4 : at + 4 + length]
        at += 4 + length


def reply(request: Request, ours: Server) -> tuple[Type, bytes] | None:
    """Type and payload of the answer to REQUEST, or None for no answer. Raises Malformed if it breaks RFC 8415."""
    client, chosen = request.options.get(Code.CLIENT_ID), request.options.get(Code.SERVER_ID)
    if client is not None and not 3 <= len(client) <= 130:
        raise Malformed("no client identifier")
    if request.type == Type.INFORMATION_REQUEST:
        if request.identities:
            raise Malformed("a request for information that wants an address")
        if chosen not in (None, ours.identifier):
            return None
        return Type.REPLY, _message(Type.REPLY, request, ours, [])
    if request.type not in _STATEFUL:
        raise Malformed(f"message type {request.type}")
    # A server discards a message without a client, and one that names a server where it must not (RFC 8415, 16).
    if client is None or (chosen is None) == (request.type in _TO_US):
        raise Malformed("an identifier too few or too many")
    if chosen not in (None, ours.identifier):
        return None
    if request.type == Type.CONFIRM and not _wanted(request):
        return None
    if ours.address is None and not (ours.prefixes and _wants_prefix(request)):
        return _without_address(request, ours)
    kind = Type.REPLY
    if request.type == Type.SOLICIT and Code.RAPID_COMMIT not in request.options:
        kind = Type.ADVERTISE
    return kind, _message(kind, request, ours, _identities(request, ours))


def _wants_prefix(request: Request) -> bool:
    return any(code == Code.IA_PD for code, _, _ in request.identities)


def _without_address(request: Request, ours: Server) -> tuple[Type, bytes] | None:
    """The answer of a server that has no address to give. It says so: without an answer a client asks again and again
    (RFC 8415, 18.3.9, 18.3.2, 18.3.4). Other clients' addresses are not its business."""
    match request.type:
        case Type.SOLICIT:
            return Type.ADVERTISE, _message(Type.ADVERTISE, request, ours, _refusals(request))
        case Type.REQUEST:
            return Type.REPLY, _message(Type.REPLY, request, ours, _refusals(request))
        case Type.RENEW:
            unknown = [_refused(*one[:2], Status.NO_BINDING) for one in request.identities]
            return Type.REPLY, _message(Type.REPLY, request, ours, unknown)
        case Type.RELEASE | Type.DECLINE:
            return Type.REPLY, _message(Type.REPLY, request, ours, [_status(Status.SUCCESS)])
    return None


def _refusals(request: Request) -> list[bytes]:
    return [_refused(code, identity) for code, identity, _ in request.identities]


def _refused(code: int, identity: bytes, why: Status | None = None) -> bytes:
    """The identity association CODE without address or prefix, and the reason."""
    why = why or (Status.NO_PREFIX if code == Code.IA_PD else Status.NO_ADDRESS)
    times = b"" if code == Code.IA_TA else bytes(8)
    return option6(code, identity + times + _status(why))


def _identities(request: Request, ours: Server) -> Iterator[bytes]:
    """What the guest gets: its address in its first association, all its prefixes in the first one for delegation, and
    in the others the reason why they are empty."""
    if request.type in _WITH_ADDRESS:
        left = {Code.IA_NA: (ours.address,) if ours.address else (), Code.IA_PD: ours.prefixes}
        for code, identity, had in request.identities:
            given = left.pop(Code(code), ()) if code in left else ()
            if given:
                parts = [_lease(code, one, ours.times[2]) for one in given]
                parts += [_lease(code, one, 0) for one in had if one not in given]
                yield option6(code, identity + struct.pack("!II", *ours.times[:2]) + b"".join(parts))
            else:
                yield _refused(code, identity)
        if request.type == Type.SOLICIT and Code.RAPID_COMMIT in request.options:
            yield option6(Code.RAPID_COMMIT, b"")
    elif request.type == Type.CONFIRM:
        yield _status(Status.SUCCESS if _wanted(request) == {ours.address} else Status.NOT_ON_LINK)
    else:
        yield _status(Status.SUCCESS)


def _wanted(request: Request) -> set[bytes]:
    """The addresses that it names. Prefixes do not count: CONFIRM has none (RFC 8415, 18.2.3)."""
    identities = (one for one in request.identities if one[0] != Code.IA_PD)
    return {address for _, _, addresses in identities for address in addresses}


def _lease(code: int, leased: bytes, lifetime: int) -> bytes:
    """An address, or a prefix with its length, for LIFETIME seconds (RFC 8415, 21.6, 21.22)."""
    times = struct.pack("!II", lifetime, lifetime)
    return option6(_INSIDE[code], times + leased if code == Code.IA_PD else leased + times)


def _status(code: Status) -> bytes:
    return option6(Code.STATUS, struct.pack("!H", code))


def _message(kind: Type, request: Request, ours: Server, more: Iterator[bytes] | list[bytes]) -> bytes:
    parts = [bytes((kind,)) + request.transaction]
    if client := request.options.get(Code.CLIENT_ID):
        parts.append(option6(Code.CLIENT_ID, client))
    parts.append(option6(Code.SERVER_ID, ours.identifier))
    parts += more
    listed = request.options.get(Code.ASKED, b"")
    asked = set(struct.unpack(f"!{len(listed) // 2}H", listed[: len(listed) // 2 * 2]))
    parts += [encoded for code, encoded in ours.information.items() if not asked or code in asked]
    if ours.boot:
        parts += ours.boot.told6(request.options, asked)
    if request.type == Type.INFORMATION_REQUEST and Code.REFRESH in asked:
        parts.append(option6(Code.REFRESH, struct.pack("!I", max(600, ours.times[0]))))
    return b"".join(parts)
