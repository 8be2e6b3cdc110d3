# SPDX-License-Identifier: BSD-2-Clause
"""A guest with an IPv6 address that it may not have learns so at once, and so does the administrator."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv6Address

from tests.lab import Node, Tap

from .actions import attach, differences, ip, manage
from .conftest import MakeTap
from .environment import BEYOND6, GATEWAY6, mac, public6, routed
from .forging import ICMP6, ether, icmp6, ip6
from .responder_lab import counts, state
from .test_claims import CHOSEN, Guest, addresses, claims, guest, private6, serving, up
from .vifd import until

__all__ = ["guest", "serving"]
FOREIGN = "2001:db8:1::5"


def tried(one: Node, source: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> str:
    """What becomes of a connection from SOURCE to a host that answers nobody: the name of the error."""

    def connect() -> str:
        with socket.socket(socket.AF_INET6, kind) as talk:
            talk.settimeout(60)
            talk.bind((source, 0))
            try:
                talk.connect((BEYOND6, 9))
                talk.send(b"x")
                talk.recv(1)
            except OSError as error:
                return errno.errorcode.get(error.errno or 0, repr(error))
        return "none"

    return one.inside(connect)


def data(source: str, number: int = 5, destination: str = BEYOND6) -> bytes:
    """A packet of an established TCP connection, as a guest sends it to its router."""
    head = struct.pack("!HHIIBBHHH", 40000, 443, 1, 1, 0x50, 0x10, 65535, 0, 0)
    return ether(mac(number), mac(6), 0x86DD, ip6(source, destination, 6, head))


def is_refusal(frame: bytes, source: str) -> bool:
    """Whether FRAME tells the guest that SOURCE is refused."""
    told = frame[12:14] == b"\x86\xdd" and frame[20] == ICMP6 and frame[54:56] == b"\1\5"
    return told and frame[38:54] == frame[70:86] == IPv6Address(source).packed


def test_a_connection_from_a_foreign_address_fails_at_once(serving: Node, guest: Guest) -> None:
    one = guest(serving, 5)
    attach(serving, routed("tap5"))
    up(one)
    until(lambda: public6(5) in addresses(one), "its own address")
    ip(one, f"addr add {FOREIGN}/64 dev eth0 nodad")
    assert tried(one, FOREIGN) == "EACCES"
    assert tried(one, FOREIGN, socket.SOCK_DGRAM) == "EACCES"
    assert counts(serving, "tap5")["address_refused"] >= 2
    assert differences(serving) == []


def test_a_bridged_guest_s_connection_fails_at_once_too(serving: Node, guest: Guest) -> None:
    one = guest(serving, 5)
    attach(serving, private6(5))
    up(one)
    until(lambda: "tap5" in state(serving)["taps"], "its service")
    ip(one, f"addr add {FOREIGN}/64 dev eth0 nodad")
    ip(one, "-6 route add default via fd00:1::1 dev eth0 onlink")
    ip(one, f"-6 neigh replace fd00:1::1 dev eth0 lladdr {mac(6)}")
    assert tried(one, FOREIGN) == "EACCES"


def test_what_somebody_else_has_is_refused_when_the_packet_is_repeated(serving: Node, guest: Guest) -> None:
    one = guest(serving, 5)
    with Tap(serving, name="tap7"):
        attach(serving, routed("tap5"))
        attach(serving, routed("tap7", 7, IP=CHOSEN))
        up(one)
        until(lambda: public6(5) in addresses(one), "its own address")
        ip(one, f"addr add {CHOSEN}/64 dev eth0 nodad noprefixroute")
        assert tried(one, CHOSEN) == "EACCES"
        assert claims(serving, "tap5") == []


def test_data_from_an_address_of_the_prefix_claims_it(serving: Node, tap: MakeTap) -> None:
    one = tap(serving)
    attach(serving, routed(one.name))
    until(lambda: one.name in state(serving)["taps"], "its service")
    one.send(data(CHOSEN))
    until(lambda: claims(serving, one.name) == [CHOSEN], "the claim")
    until(lambda: CHOSEN in serving.path(f"/var/lib/nfdhcpd/{one.name}").read_text(), "the binding")
    before = counts(serving, one.name).get("refusal_delayed", 0)
    one.send(data(CHOSEN))
    one.send(data(FOREIGN))
    one.expect(lambda frame: is_refusal(frame, FOREIGN), "the refusal of the other")
    assert counts(serving, one.name).get("refusal_delayed", 0) == before
    assert differences(serving) == []


def test_a_flood_of_refused_packets_costs_others_nothing(serving: Node, tap: MakeTap) -> None:
    flooder, other = tap(serving), tap(serving)
    for number, one in ((5, flooder), (6, other)):
        attach(serving, routed(one.name, number))
    until(lambda: {flooder.name, other.name} <= set(state(serving)["taps"]), "their service")
    for _ in range(3000):
        flooder.send(data(FOREIGN))
    other.send(data(FOREIGN, 6))
    other.expect(lambda frame: is_refusal(frame, FOREIGN), "the refusal")
    until(lambda: counts(serving, flooder.name).get("refusals_limited", 0) > 0, "the limit")
    assert counts(serving, flooder.name)["address_refused"] < 300
    assert sum(counts(serving, flooder.name).values()) < 1500  # the kernel drops the others
    body = bytes(4) + IPv6Address(GATEWAY6).packed
    own = public6(5)
    asked = ether(mac(5), mac(6), 0x86DD, ip6(own, GATEWAY6, ICMP6, icmp6(own, GATEWAY6, 135, body)))
    flooder.send(asked)
    flooder.expect(lambda frame: frame[54:55] == b"\x88", "the answer to its own request")


def test_status_and_check_name_the_address_and_what_to_do(serving: Node, tap: MakeTap) -> None:
    one = tap(serving)
    attach(serving, routed(one.name))
    until(lambda: one.name in state(serving)["taps"], "its service")
    one.send(data(FOREIGN))
    what = f"note: vm5.example.com NIC 0 ({one.name}): its guest may not have {FOREIGN}: it is not in 2001:db8::/64"
    do = f"  in the guest: ip -6 addr del {FOREIGN} dev DEVICE"
    until(lambda: what in manage(serving, "status").splitlines(), "the note")
    for verb in ("status", "check"):
        lines = manage(serving, verb).splitlines()
        assert lines[lines.index(what) + 1] == do
