# SPDX-License-Identifier: BSD-2-Clause
"""An IPv6 prefix of its own for each NIC: which one it has, what it needs, and what contradicts."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from guest_frames import router_solicitation, serving
from hypothesis import given
from hypothesis import strategies as st
from samples import PUBLIC, ROUTED, context, nic_of

from ganeti_vif.config import own_prefixes
from ganeti_vif.config.effective import lines
from ganeti_vif.config.model import Bindings, Config, Consumer, Dhcpv6, PerNic, Public, Told
from ganeti_vif.config.parse import parse
from ganeti_vif.desired import routed
from ganeti_vif.desired.needs import needs, only_here
from ganeti_vif.desired.obstacle import obstacle
from ganeti_vif.desired.own_prefix import with_own_prefix
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Binding, Neighbours, ProxyNeighbour, Route
from ganeti_vif.guard import guard, tap_filter
from ganeti_vif.guard.packet import described
from ganeti_vif.guard.rules import Verdict, decision
from ganeti_vif.kernel.nftables import compiled_rules
from ganeti_vif.nic.claim import prefix_of, refusal
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import nic_of as nic_of_record
from ganeti_vif.nic.record import record_of
from ganeti_vif.responder.answer import answer
from ganeti_vif.responder.service import service
from nfdhcpd_bridge.binding import parse as parse_binding
from nfdhcpd_bridge.reading import reading

POOL = IPv6Network("2001:db8:77::/48")
LINK = replace(
    PUBLIC, subnets=(ip_network("10.77.1.0/24"), ip_network("10.77.8.0/22"), POOL), ipv6_per_nic=PerNic.SLASH_64
)
CONFIG = Config(public=(LINK,))
SECTION = "[public p]\ntable = 222\nuplink = eth1\nsubnets = {}\nipv6-per-nic = {}\n"
OWN = IPv6Network("2001:db8:77:2::/64")


def nic(**changes: str | None) -> Nic:
    return with_own_prefix(nic_of(ROUTED, **changes), CONFIG)


# Which prefix

subnets4 = st.lists(
    st.builds(
        lambda number, length: IPv4Network((number >> 32 - length << 32 - length, length)),
        st.integers(0, 2**32 - 1),
        st.integers(18, 32),
    ),
    min_size=1,
    max_size=4,
).filter(lambda found: not any(a.overlaps(b) for n, a in enumerate(found) for b in found[n + 1 :]))


def link_of(subnets: list[IPv4Network], pool: IPv6Network = POOL) -> Public:
    return replace(PUBLIC, subnets=(*subnets, pool), ipv6_per_nic=PerNic.SLASH_64)


def addresses_of(subnets: list[IPv4Network]) -> st.SearchStrategy[IPv4Address]:
    return st.sampled_from(subnets).flatmap(
        lambda one: st.integers(0, one.num_addresses - 1).map(lambda place: one[place])
    )


@given(subnets4.flatmap(lambda subnets: st.tuples(st.just(subnets), addresses_of(subnets), addresses_of(subnets))))
def test_two_addresses_never_have_one_prefix(found: tuple[list[IPv4Network], IPv4Address, IPv4Address]) -> None:
    subnets, one, other = found
    public = link_of(subnets)
    if own_prefixes.mistake(public):
        return
    prefixes = own_prefixes.prefix(one, public), own_prefixes.prefix(other, public)
    assert all(prefix and prefix.prefixlen == 64 and prefix.subnet_of(POOL) for prefix in prefixes)
    assert (prefixes[0] == prefixes[1]) == (one == other)


@given(subnets4.flatmap(lambda subnets: st.tuples(st.just(subnets), addresses_of(subnets))), subnets4)
def test_a_subnet_that_is_added_at_the_end_changes_no_prefix(
    found: tuple[list[IPv4Network], IPv4Address], more: list[IPv4Network]
) -> None:
    subnets, one = found
    assert own_prefixes.prefix(one, link_of(subnets)) == own_prefixes.prefix(one, link_of([*subnets, *more]))


@given(st.integers(0, 2**16 - 1))
def test_the_place_is_the_same_in_both_prefixes(place: int) -> None:
    public = link_of([IPv4Network("10.1.0.0/16")])
    found = own_prefixes.prefix(IPv4Address("10.1.0.0") + place, public)
    assert found == IPv6Network((int(POOL.network_address) + (place << 64), 64))


def test_the_second_subnet_goes_on_after_the_first() -> None:
    assert nic().prefix6 == OWN
    assert nic(IP="10.77.1.200").prefix6 == IPv6Network("2001:db8:77:c8::/64")
    assert nic(IP="10.77.8.1").prefix6 == IPv6Network("2001:db8:77:101::/64")


@pytest.mark.parametrize("changes", [{"IP": None}, {"IP": "10.99.0.1"}, {"TAGS": "disable_ipv6"}, {"LINK": "other"}])
def test_who_has_no_place_has_no_prefix(changes: dict[str, str | None]) -> None:
    assert nic(**changes).prefix6 is None


def test_without_the_key_nobody_has_one_and_who_had_one_loses_it() -> None:
    without = Config(public=(replace(LINK, ipv6_per_nic=None),))
    assert with_own_prefix(nic(), without).prefix6 is None


# The configuration


@pytest.mark.parametrize(
    ("subnets", "what"),
    [
        ("2001:db8::/48", "ipv6-per-nic without an IPv4 subnet: a NIC's IPv4 address leads to its prefix"),
        ("192.0.2.0/24 2001:db8::/64", "ipv6-per-nic without an IPv6 subnet that is shorter than /64"),
        ("192.0.2.0/24", "ipv6-per-nic without an IPv6 subnet that is shorter than /64"),
        (
            "192.0.2.0/24 2001:db8::/48 2001:db8:1::/56",
            "ipv6-per-nic with several IPv6 subnets that are shorter than /64: 2001:db8::/48 and 2001:db8:1::/56",
        ),
        (
            "10.0.0.0/16 192.0.2.0/32 2001:db8::/48",
            "2001:db8::/48 has 65536 prefixes of /64, and the IPv4 subnets have 65537 addresses",
        ),
        (
            "192.0.2.0/24 192.0.2.128/25 2001:db8::/48",
            "ipv6-per-nic with subnets that overlap: 192.0.2.0/24 and 192.0.2.128/25",
        ),
        (
            "192.0.2.0/24 2001:db8::/48 2001:db8:0:1::/64",
            "ipv6-per-nic with subnets that overlap: 2001:db8::/48 and 2001:db8:0:1::/64",
        ),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(subnets: str, what: str) -> None:
    with pytest.raises(Failure) as refused:
        parse(SECTION.format(subnets, "/64"), "x.conf")
    assert refused.value.what == f"x.conf:5: {what}"
    assert refused.value.do.startswith("note: ")


@pytest.mark.parametrize("length", ["/56", "64", "yes", "/64 /56", ""])
def test_each_nic_has_a_64_and_nothing_else(length: str) -> None:
    with pytest.raises(Failure, match="is none of: /64"):
        parse(SECTION.format("192.0.2.0/24 2001:db8::/48", length))


def test_two_links_have_no_prefixes_in_common() -> None:
    other = SECTION.format("198.51.100.0/24 2001:db8:0:5::/64", "/64")
    other = other.replace("public p", "public q").replace("222", "223").replace("eth1", "eth2")
    with pytest.raises(Failure, match="addresses in common: 2001:db8::/48 and 2001:db8:0:5::/64"):
        parse(SECTION.format("192.0.2.0/24 2001:db8::/48", "/64") + other.replace("ipv6-per-nic = /64\n", ""))


def test_the_key_is_in_the_configuration_as_a_whole() -> None:
    config = parse(SECTION.format("192.0.2.0/24 2001:db8::/48", "/64"))
    assert "ipv6-per-nic = /64" in (shown := list(lines(config)))
    assert parse("\n".join(shown)) == config


def test_a_prefix_may_be_just_large_enough() -> None:
    (public,) = parse(SECTION.format("10.0.0.0/16 2001:db8::/48", "/64")).public
    assert public.pool6 == IPv6Network("2001:db8::/48")


# The NIC


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"IP": None}, "it has no IPv4 address, which leads to its IPv6 prefix"),
        ({"IP": "2001:db8:77::9"}, "it has no IPv4 address, which leads to its IPv6 prefix"),
        ({"IP": "10.99.0.1"}, "its address 10.99.0.1 is in no subnet of the public link rt_pub"),
        ({"IP": "10.77.1.0", "NETWORK_UUID": None}, "its address 2001:db8:77::/64 takes 2001:db8:77::1"),
        ({"NETWORK_SUBNET6": "2001:db8:78::/64"}, "its network net-a has the IPv6 prefix 2001:db8:78::/64"),
        ({"NETWORK_SUBNET6": "2001:db8::/32"}, "its network net-a has the IPv6 prefix 2001:db8::/32"),
        ({"TAGS": "vif:0:address:2001:db8:77:9::1"}, "its address 2001:db8:77:9::1 is in 2001:db8:77::/48"),
        ({"TAGS": "vif:0:address:2001:db8:77:8::/63"}, "its address 2001:db8:77:8::/63 is in 2001:db8:77::/48"),
    ],
)
def test_what_contradicts_is_refused(changes: dict[str, str | None], what: str) -> None:
    one = nic(**changes)
    found = obstacle(one, replace(context(one), public=LINK))
    assert found and f": {what}" in found.what
    assert found.do.startswith("note: ")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"NETWORK_SUBNET6": None, "NETWORK_GATEWAY6": None},
        {"NETWORK_SUBNET6": "2001:db8:77::/48"},
        {"NETWORK_UUID": None},
        {"TAGS": "disable_ipv4"},
        {"TAGS": "disable_ipv6"},
        {"TAGS": "vif:0:address:2001:db8:77:2::9"},
    ],
)
def test_what_does_not_contradict_is_attached(changes: dict[str, str | None]) -> None:
    one = nic(**changes)
    assert obstacle(one, replace(context(one), public=LINK)) is None


def test_what_it_needs_on_the_node() -> None:
    one = nic()
    own = needs(one, CONFIG, replace(context(one), public=LINK)).own.values()
    hop = IPv6Address("fe80::a800:9ff:fe09:6336")
    made = IPv6Address("2001:db8:77:2:a800:9ff:fe09:6336")
    routes = [thing for thing in own if isinstance(thing, Route) and thing.destination.version == 6]
    assert routes == [Route(table=222, destination=OWN, device="tap0", gateway=hop)]
    (neighbours,) = (thing for thing in own if isinstance(thing, Neighbours))
    assert neighbours.addresses == {IPv4Address("10.77.1.2"), hop}
    proxies = {(thing.device, thing.address) for thing in own if isinstance(thing, ProxyNeighbour)}
    assert ("eth1", made) in proxies
    assert routed.addresses(one) == (IPv4Address("10.77.1.2"), made)
    assert only_here(one, routes[0])


@pytest.mark.parametrize("tags", ["vif:0:unguarded", "vif:0:mac:aa:00:09:00:00:01"])
@pytest.mark.parametrize("delegated", [False, True])
def test_its_next_hop_has_a_mac_whatever_its_guest_may_do(tags: str, delegated: bool) -> None:
    """Also if a delegated prefix leads to it, and no prefix of its own."""
    one = nic_of(ROUTED, TAGS=f"{tags} vif:0:delegate:2001:db8:77:100::/56") if delegated else nic(TAGS=tags)
    own = needs(one, CONFIG, replace(context(one), public=LINK)).own.values()
    (neighbours,) = (thing for thing in own if isinstance(thing, Neighbours))
    assert one.link_local in neighbours.addresses


def test_its_record_has_the_prefix_and_others_have_no_word_of_it() -> None:
    assert nic_of_record(record_of(nic())) == nic()
    assert "prefix6" not in record_of(nic_of(ROUTED)).text


@pytest.mark.parametrize(
    ("packet", "verdict"),
    [
        ("from=2001:db8:77:2::1 to=2001:db8:ffff::1 proto=tcp", Verdict.ACCEPT),
        ("from=2001:db8:77:2:ffff:ffff:ffff:ffff to=2001:db8:ffff::1 proto=icmp6", Verdict.ACCEPT),
        ("from=2001:db8:77:3::1 to=2001:db8:ffff::1 proto=tcp", Verdict.DROP),
        ("from=2001:db8:77:1:ffff:ffff:ffff:ffff to=2001:db8:ffff::1 proto=udp dport=53", Verdict.DROP),
        ("from=2001:db8:77::1 to=2001:db8:ffff::1 proto=icmp6", Verdict.DROP),
        ("from=:: to=ff02::1:ff00:1 proto=icmp6 type=135 nd-target=2001:db8:77:2::1", Verdict.ACCEPT),
        ("from=:: to=ff02::1:ff00:1 proto=icmp6 type=135 nd-target=2001:db8:77:3::1", Verdict.DROP),
        ("from=2001:db8:77:2::1 to=ff02::1 proto=icmp6 type=136 nd-target=2001:db8:77:2::1 nd-mac=aa:00:09:09:63:36", Verdict.ACCEPT),
        ("from=2001:db8:77:2::1 to=ff02::1 proto=icmp6 type=136 nd-target=2001:db8:77:3::1 nd-mac=aa:00:09:09:63:36", Verdict.DROP),
    ],
)  # fmt: skip
def test_its_guest_uses_its_prefix_and_nothing_else(packet: str, verdict: Verdict) -> None:
    assert decision(guard.rules(nic()), described(packet, nic())).verdict is verdict


def test_the_rules_of_two_such_nics_have_the_same_shapes() -> None:
    """So that libnftables translates them once."""
    found = [
        [compiled_rules.shape("netdev", rule) for rule in tap_filter.ingress(one, 7, any_link_local=True).rules]
        for one in (nic(), nic(IP="10.77.8.9", MAC="aa:00:09:00:00:01"))
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("word", "size"),
    [("2001:db8:77:1::ab", 16), ("2001:db8:0:5::/64", 8), ("aa:00:09:09:63:36", 6), ("10.77.1.2", 4)],
)
def test_an_address_of_seventeen_characters_is_no_mac(word: str, size: int) -> None:
    assert len(compiled_rules._packed(word)) == size


def test_it_claims_link_local_addresses_only() -> None:
    one = nic()
    assert prefix_of(one) == OWN
    assert refusal(one, IPv6Address("fe80::1234")) is None
    assert refusal(one, IPv6Address("2001:db8:77:3::1")) == "it is not in 2001:db8:77:2::/64"


# What its guest is told


@pytest.mark.parametrize("mode", list(Dhcpv6))
def test_its_guest_is_told_of_its_prefix_alone(mode: Dhcpv6) -> None:
    one = nic()
    found = needs(one, CONFIG, replace(context(one), public=LINK)).own.values()
    (text,) = (thing.text for thing in found if isinstance(thing, Binding))
    read = reading(text)
    assert (read.subnet6, read.address6, read.alone) == (OWN, None, True)
    served = service(read, replace(Told(), dhcpv6=mode), bytes.fromhex("fe0056494601"), routed=True)
    router = served.router6
    assert router and router.own == IPv6Address("2001:db8:77:2:a800:9ff:fe09:6336").packed
    at = router.advertisement.index(OWN.network_address.packed) - 14
    length, flags = router.advertisement[at], router.advertisement[at + 1]
    assert (length, flags) == (64, 0x40), "SLAAC, and not on-link"
    assert not router._plays(IPv6Address("2001:db8:77:2::9").packed), "nobody else has an address there"
    assert router._plays(IPv6Address("2001:db8:77::1").packed), "the gateway"
    if mode is Dhcpv6.STATEFUL:
        assert served.server6 and served.server6.address == router.own


def test_nfdhcpd_is_told_no_gateway_because_it_advertises_that_as_the_prefix() -> None:
    one = nic()
    config = replace(CONFIG, bindings=Bindings(consumer=Consumer.NFDHCPD))
    found = needs(one, config, replace(context(one), public=LINK)).own.values()
    (text,) = (thing.text for thing in found if isinstance(thing, Binding))
    assert parse_binding(text)["SUBNET6"] == str(OWN)
    assert {"GATEWAY6", "GANETI_VIF_ALONE"} & parse_binding(text).keys() == set()


def test_a_shared_prefix_has_neighbours() -> None:
    assert answer(router_solicitation(), serving()).frame
    router = serving().router6
    assert router and router._plays(IPv6Address("2001:db8::99").packed)
