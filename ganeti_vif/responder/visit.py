# SPDX-License-Identifier: BSD-2-Clause
"""What an administrator wants to know of a guest's request: what became of it, and which client sent it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from ganeti_vif.responder import dhcp4, dhcp6, lease

LONGEST = 64
"""Characters that are kept of what a client says of itself. A guest can say anything."""
_ENCODED = 4
"""Flag of option 81: the name is encoded as in DNS (RFC 4702, 2.1)."""


class Event(Enum):
    """What a request led to."""

    ASKED = "asked"
    LEASED = "leased"
    RENEWED = "renewed"
    RELEASED = "released"
    DECLINED = "declined"


class Visit(NamedTuple):
    """A request by the IP version VERSION. VENDOR and HOST are the vendor class and the host name that the client gives
    itself, empty if it gives none. They are None if it was no message of DHCP."""

    version: int
    event: Event
    vendor: bytes | None = None
    host: bytes | None = None


_EVENTS4: Mapping[int, Event] = {
    dhcp4.Type.DECLINE: Event.DECLINED,
    dhcp4.Type.RELEASE: Event.RELEASED,
    dhcp4.Type.INFORM: Event.ASKED,
}
_EVENTS6: Mapping[int, Event] = {
    dhcp6.Type.DECLINE: Event.DECLINED,
    dhcp6.Type.RELEASE: Event.RELEASED,
    dhcp6.Type.CONFIRM: Event.ASKED,
}
"""The requests whose event does not depend on the answer."""


def visit4(request: dhcp4.Request, said: dhcp4.Type | None) -> Visit:
    """The visit of a guest with REQUEST, which was answered by a message of type SAID."""
    options, event = request.options, Event.ASKED
    if said is not dhcp4.Type.OFFER:  # the most frequent of all
        event = _event4(request, said)
    host = options.get(lease.Code.HOSTNAME) or _name4(options.get(lease.Code.CLIENT_NAME, b""))
    return Visit(4, event, options.get(lease.Code.VENDOR_CLASS, b"")[:LONGEST], host[:LONGEST])


def _event4(request: dhcp4.Request, said: dhcp4.Type | None) -> Event:
    if event := _EVENTS4.get(request.type):
        return event
    if said is dhcp4.Type.BOOTP or said is dhcp4.Type.ACK:
        return Event.RENEWED if any(request.client) else Event.LEASED
    return Event.ASKED


def visit6(request: dhcp6.Request, said: dhcp6.Type | None, *, given: bool) -> Visit:
    """The visit of a guest with REQUEST, which was answered by a message of type SAID. GIVEN: it gave an address."""
    options = request.options
    vendor = options.get(dhcp6.Code.VENDOR_CLASS, b"")[6:]  # after the enterprise number and a length
    name = _from_dns(options.get(dhcp6.Code.CLIENT_NAME, b"")[1:])
    return Visit(6, _event6(request, said, given=given), vendor[:LONGEST], name[:LONGEST])


def _event6(request: dhcp6.Request, said: dhcp6.Type | None, *, given: bool) -> Event:
    if event := _EVENTS6.get(request.type):
        return event
    wanted = any(code == dhcp6.Code.IA_NA for code, _, _ in request.identities)
    if said is not dhcp6.Type.REPLY or not given or not wanted:
        return Event.ASKED
    renews = request.type in (dhcp6.Type.RENEW, dhcp6.Type.REBIND)
    return Event.RENEWED if renews else Event.LEASED


def _name4(value: bytes) -> bytes:
    return _from_dns(value[3:]) if value and value[0] & _ENCODED else value[3:]


def _from_dns(value: bytes) -> bytes:
    """The name that VALUE has in DNS's encoding, as far as it is one (RFC 1035, 3.1)."""
    labels: list[bytes] = []
    at = 0
    while at < len(value) and value[at] and len(labels) < LONGEST:
        labels.append(value[at + 1 : at + 1 + value[at]])
        at += 1 + value[at]
    return b".".join(labels)


def legible(text: bytes) -> str | None:
    """TEXT of a guest with its printable ASCII characters, and `?` for each other one. None if it is empty."""
    return "".join(chr(one) if 32 <= one < 127 else "?" for one in text).strip() or None
