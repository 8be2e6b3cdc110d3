# SPDX-License-Identifier: BSD-2-Clause
"""One frame from a guest, and the answer to it.

The frame was captured before the tap's filter, so this module checks its addresses: its Ethernet source and its DHCP
hardware address must be the guest's, and its IPv6 source must be link-local, the guest's own, or unspecified.
"""

from __future__ import annotations

from typing import NamedTuple

from ganeti_vif.nic.announcement import ETH_P_ARP, ETH_P_IPV6, IPPROTO_ICMPV6
from ganeti_vif.responder import dhcp4, dhcp6, packet, router
from ganeti_vif.responder.packet import ANY6, Datagram
from ganeti_vif.responder.service import Service
from ganeti_vif.responder.visit import Event, Visit, visit4, visit6

SPOOFED, IGNORED = "spoofed", "ignored"


class Answer(NamedTuple):
    """HEARD and SAID are the names of the request and of the answer, for counters. FRAME is the answer, if any.

    HEARD may also be `spoofed` (the frame has another's address) or `ignored` (well-formed, but not for us). VISIT is
    what an administrator wants to know of the request; None if it is of no interest. SPARE: the node's kernel answers
    the same, unless a firewall keeps the question from it. So FRAME is sent only if the guest asks again.
    """

    heard: str
    said: str | None = None
    frame: bytes | None = None
    visit: Visit | None = None
    spare: bool = False


_IGNORED, _SPOOFED = Answer(IGNORED), Answer(SPOOFED)
_SOLICITED = Visit(6, Event.ASKED)
_HEARD4 = {kind.value: f"dhcp4_{kind.name.lower()}" for kind in dhcp4.Type} | {dhcp4.Type.BOOTP.value: "bootp_request"}
_SAID4 = _HEARD4 | {dhcp4.Type.BOOTP.value: "bootp_reply"}
_HEARD6 = {kind.value: f"dhcp6_{kind.name.lower()}" for kind in dhcp6.Type}


def answer(frame: bytes, service: Service) -> Answer:
    """The answer to FRAME. Raises Malformed if the frame is not well-formed."""
    kind = packet.kind(frame)
    if frame[6:12] != service.guest:
        return _SPOOFED
    if kind == packet.ETH_P_IP:
        return _ip(frame, service)
    if kind == ETH_P_IPV6:
        return _ip6(frame, service)
    return _arp(frame, service) if kind == ETH_P_ARP else _IGNORED


def _ip(frame: bytes, service: Service) -> Answer:
    lease = service.lease
    if lease is None:
        return _IGNORED
    datagram = packet.datagram(frame)
    if datagram.port != dhcp4.SERVER_PORT:
        return _IGNORED
    request = dhcp4.parse(datagram.payload)
    if request.hardware != service.guest:
        return _SPOOFED
    kind = dhcp4.reply(request, lease)
    heard = _HEARD4[request.type]
    visit = visit4(request, kind)
    if kind is None:
        return Answer(heard, visit=visit)
    return Answer(heard, _SAID4[kind], dhcp4.frame(kind, request, lease, service.router), visit)


def _arp(frame: bytes, service: Service) -> Answer:
    """The answer to an ARP request. We answer for our own address only: another address may be another guest's."""
    asked = packet.arp_target(frame)
    if asked is None or service.lease is None or not service.lease.own_server or asked[1] != service.lease.server:
        return _IGNORED
    reply = packet.arp_reply((service.router, service.guest), (asked[1], asked[0]))
    return Answer("arp_request", "arp_reply", reply)


def _ip6(frame: bytes, service: Service) -> Answer:
    if service.router6 is None:
        return _IGNORED
    datagram = packet.datagram6(frame)
    source = datagram.source
    # The answer goes to this guest alone. An address that it chose itself may be its own by now (nic/claim.py).
    chosen = datagram.protocol == IPPROTO_ICMPV6 and service.router6.may_be_claimed(source)
    if source[:8] != packet.LINK_LOCAL and source not in (ANY6, service.router6.own) and not chosen:
        return _SPOOFED
    if datagram.protocol == IPPROTO_ICMPV6:
        return _discovery(datagram, service, service.router6)
    if datagram.port != dhcp6.SERVER_PORT or service.server6 is None or source[:8] != packet.LINK_LOCAL:
        return _IGNORED
    request = dhcp6.parse(datagram.payload)
    replied = dhcp6.reply(request, service.server6)
    heard = _HEARD6[request.type]
    if replied is None:
        return Answer(heard, visit=visit6(request, None, given=False))
    kind, payload = replied
    visit = visit6(request, kind, given=service.server6.address is not None)
    ethernet, addresses = (service.router, service.guest), (service.router6.address, source)
    said = packet.udp6(ethernet, addresses, (dhcp6.SERVER_PORT, dhcp6.CLIENT_PORT), payload)
    return Answer(heard, _HEARD6[kind], said, visit)


def _discovery(datagram: Datagram, service: Service, ours: router.Router) -> Answer:
    kind = datagram.payload[0]
    if kind == router.SOLICIT_ROUTER:
        frame = ours.solicited(service.guest, datagram)
        return Answer("router_solicitation", "router_advertisement", frame, _SOLICITED)
    if kind == router.SOLICIT_NEIGHBOUR:
        reply = ours.neighbour(service.guest, datagram)
        said = "neighbour_advertisement" if reply else None
        return Answer("neighbour_solicitation", said, reply, spare=ours.is_the_nodes(datagram.payload[8:24]))
    return _IGNORED
