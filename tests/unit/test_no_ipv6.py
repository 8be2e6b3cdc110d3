# SPDX-License-Identifier: BSD-2-Clause
"""A kernel that was booted with ipv6.disable=1 answers questions about IPv6 in its own way (seen with Linux 6.1)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_network

import pytest

from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.engine.objects import ProxyNeighbour, Route
from ganeti_vif.kernel.netlink import query, routing

WAY_OUT = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 222, 156, 0, 1, 0)
"""A default route of IPv4 in table 222, with our protocol number."""


class WithoutIpv6(query.Query):
    """The kernel has no rules and neighbours of IPv6, and answers for its routes with those of IPv4."""

    def __init__(self) -> None:
        pass

    def _ask(self, kind: int, flags: int, body: bytes, *, single: bool) -> Iterator[bytes]:
        if kind == routing.RTM_GETROUTE:
            yield WAY_OUT
        elif body[0] == socket.AF_INET6:
            query._check(struct.pack("=i", -errno.EAFNOSUPPORT))


def test_what_it_has_is_read_once() -> None:
    way_out = Route(table=222, destination=ip_network("0.0.0.0/0"), device=None, protocol=156)
    assert list(routing.routes_of_ours(WithoutIpv6())) == [way_out]
    assert routing.table(WithoutIpv6(), 4, 222) == [way_out]
    assert routing.table(WithoutIpv6(), 6, 222) == []
    assert routing.advertised_default_routes(WithoutIpv6()) == set()


def test_it_has_no_rules_and_no_neighbours_of_ipv6() -> None:
    asked = WithoutIpv6()
    assert list(routing.rules(asked)) == []
    assert list(routing.foreign_rules(asked, "eth0")) == []
    assert list(routing.incoming_rules(asked)) == []
    assert list(routing.proxies_of_ours(asked)) == []
    proxy = ProxyNeighbour(device="lo", address=IPv6Address("2001:db8::5"))
    assert list(routing.proxies(asked, [proxy])) == []


def test_any_other_refusal_is_one() -> None:
    with pytest.raises(Failure) as caught:
        query._check(struct.pack("=i", -errno.EPERM))
    assert not isinstance(caught.value, Gone)
