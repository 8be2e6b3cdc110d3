# SPDX-License-Identifier: BSD-2-Clause
"""The configuration file: what an administrator writes is taken, or refused with file, line and reason."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import ROOT, outcome, proper

from ganeti_vif.config import values
from ganeti_vif.config.effective import ranges
from ganeti_vif.config.model import Bindings, Config, Consumer, Dhcpv6, For, Private, Public, VlanUplink, VxlanUplink
from ganeti_vif.config.parse import _BINDINGS, _PRIVATE, _PUBLIC, _RESPONDER, EXAMPLES, load, parse, restricted
from ganeti_vif.config.source import PATH as PATH_OF_THE_PACKAGE
from ganeti_vif.config.source import SHIPPED, _restore
from ganeti_vif.engine.chains import Chain
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.state import state
from host_setup import public

PATH = "/etc/x.conf"
PRIVATE = "[private pvn]\nbridges = 1-3\n"
LINK = "[public p]\ntable = 222\nuplink = eth1\nsubnets = 192.0.2.0/24\n"
OTHER = "[public q]\ntable = 223\nuplink = eth2\nsubnets = 198.51.100.0/24\n"


def refused(text: str) -> Failure:
    with pytest.raises(Failure) as caught:
        parse(text, PATH)
    return proper(caught.value)


def test_the_file_that_we_ship_gives_a_hundred_bridges_and_nothing_else() -> None:
    config = load(str(ROOT / "etc/ganeti-vif.conf"))
    assert config == Config(
        private=(Private(prefix="pvn", numbers=tuple(range(1, 101))),),
        bindings=Bindings(directory="/var/lib/nfdhcpd", wanted_for=For.TAGGED, consumer=Consumer.RESPONDER),
        profiles=config.profiles,
    )
    assert {profile.name for profile in config.profiles} == {"protected", "limited", "unprotected"}
    assert not any(profile.trouble for profile in config.profiles)
    assert list(config.private[0].bridges) == [f"pvn{number}" for number in range(1, 101)]


def test_the_public_link_that_the_shipped_file_shows_as_a_comment_is_right() -> None:
    text = (ROOT / "etc/ganeti-vif.conf").read_text(encoding="utf-8")
    lines = text[text.index("# [public") : text.index("[bindings]")].splitlines()
    config = parse("\n".join(line.removeprefix("# ") for line in lines))
    assert config.public == (
        Public(
            name="snf_public",
            table=222,
            uplink="eth1",
            subnets=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")),
            gateways=(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
            arp_source=IPv4Address("192.0.2.254"),
        ),
    )


def test_an_empty_file_is_a_node_without_networks() -> None:
    assert parse("") == Config()
    assert parse("# nothing yet\n\n") == Config()


def test_everything_at_once_with_comments_behind_values() -> None:
    config = parse(
        "[private pvn]\nbridges = 1-2,7   ; three\nuplink = vlan eth1 +2990 # VLANs\nmtu = 9000\n"
        "[private vx-]\nBRIDGES = 1\nuplink = vxlan eth2 +10000 group ff05::5\n"
        "[public p] ; the one\ntable = 300\nuplink = eth3.7\nsubnets = 192.0.2.0/24,\n  198.51.100.0/24\n"
        "gateways = 192.0.2.1\n"
        "[bindings]\ndirectory = /srv/b/\nfor = all\nconsumer = none\n"
    )
    assert config.private == (
        Private(prefix="pvn", numbers=(1, 2, 7), uplink=VlanUplink("eth1", 2990), mtu=9000),
        Private(prefix="vx-", numbers=(1,), uplink=VxlanUplink("eth2", 10000, ip_address("ff05::5"))),
    )
    assert [*config.private[0].devices] == ["pvn1", "pvn2", "pvn7", "eth1.2991", "eth1.2992", "eth1.2997"]
    assert [*config.private[1].devices] == ["vx-1", "vx10001"]
    assert [str(subnet) for subnet in config.public[0].subnets] == ["192.0.2.0/24", "198.51.100.0/24"]
    assert config.bindings == Bindings(directory="/srv/b", wanted_for=For.ALL, consumer=Consumer.NONE)


@pytest.mark.parametrize("link", ["snf_public", "222"])
def test_a_nic_names_a_public_link_by_its_name_or_its_table(link: str) -> None:
    config = parse(LINK.replace("[public p]", "[public snf_public]") + OTHER)
    found = config.public_link(link)
    assert found
    assert found.uplink == "eth1"
    assert config.public_link("main") is None


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("[privat pvn]\nbridges = 1\n", 1, "[privat pvn]"),
        ("[private]\nbridges = 1\n", 1, "[private]"),
        ("[bindings x]\n", 1, "[bindings x]"),
        ("[DEFAULT]\nmtu = 1\n", 1, "[DEFAULT]"),
        (PRIVATE + "bridge = 4\n", 3, "'bridge'"),
        (PRIVATE + "table = 4\n", 3, "'table'"),
        (LINK + "arp_source = 192.0.2.254\n", 5, "'arp_source'"),
        ("[bindings]\ndir = /x\n", 2, "'dir'"),
        (PRIVATE + "bridges = 4\n", 3, "'bridges' comes twice"),
        (PRIVATE + PRIVATE, 3, "[private pvn] comes twice"),
        ("bridges = 1\n" + PRIVATE, 1, "before the first"),
        (PRIVATE + "nonsense\n", 3, "nonsense"),
        ("[private pvn]\nuplink = none\n", 1, "'bridges'"),
        ("[public p]\nuplink = eth1\nsubnets = 192.0.2.0/24\n", 1, "'table'"),
        ("[public p]\ntable = 222\nsubnets = 192.0.2.0/24\n", 1, "'uplink'"),
        ("[public p]\ntable = 222\nuplink = eth1\n", 1, "'subnets'"),
        ("\n\n# x\n[private pvn]\n\nbridges = 5-1\n", 6, "5-1"),
        ("[private pvn]\nbridges = 5-4\n", 2, "5-4"),
        ("[private pvn]\nbridges =\n", 2, "bridges"),
        ("[private pvn]\nbridges = 1,,2\n", 2, "no number"),
        ("[private pvn]\nbridges = 1-\n", 2, "1-"),
        ("[private pvn]\nbridges = -1\n", 2, "-1"),
        ("[private pvn]\nbridges = a\n", 2, "'a'"),
        ("[private pvn]\nbridges = 1-999999\n", 2, "16384"),
        ("[private averylongprefix]\nbridges = 1\n", 2, "averylongprefix1"),
        ("[private pvn]\nbridges = 9999999\nuplink = vlan eth1 +1\n", 3, "10000000"),
        ("[private p/n]\nbridges = 1\n", 2, "p/n1"),
        ("[private -n]\nbridges = 1\n", 2, "-n1"),
        (PRIVATE + "uplink = vlan eth1 +4092\n", 3, "VLAN 4095"),
        ("[private pvn]\nbridges = 0\nuplink = vlan eth1 +0\n", 3, "VLAN 0"),
        (PRIVATE + "uplink = vxlan eth1 +16777215\n", 3, "VNI 16777216"),
        (PRIVATE + "uplink = vlan eth1 2990\n", 3, "'2990'"),
        (PRIVATE + "uplink = vlan eth1 -5\n", 3, "'-5'"),
        (PRIVATE + "uplink = eth1\n", 3, "'eth1'"),
        (PRIVATE + "uplink = vlan eth/1 +1\n", 3, "eth/1"),
        (PRIVATE + "uplink = vxlan eth1 +1 group 192.0.2.1\n", 3, "multicast"),
        (PRIVATE + "uplink = vxlan eth1 +1 group x\n", 3, "'x'"),
        (PRIVATE + "mtu = 67\n", 3, "67"),
        (PRIVATE + "mtu = 65536\n", 3, "65536"),
        (PRIVATE + "mtu = 1.5\n", 3, "1.5"),
        (LINK.replace("222", "254"), 2, "(main)"),
        (LINK.replace("222", "255"), 2, "(local)"),
        (LINK.replace("222", "253"), 2, "(default)"),
        (LINK.replace("222", "0"), 2, "'0'"),
        (LINK.replace("222", "4294967296"), 2, "4294967296"),
        (LINK.replace("222", "snf"), 2, "snf"),
        (LINK.replace("eth1", "../eth1"), 3, "../eth1"),
        (LINK.replace("eth1", "e" * 16), 3, "too long"),
        (LINK.replace("/24", ""), 4, "prefix length"),
        (LINK.replace(".0/24", ".1/24"), 4, "host bits"),
        (LINK.replace("/24", "/33"), 4, "/33"),
        (LINK + "gateways = 192.0.2.1 192.0.2.2\n", 5, "more than one IPv4"),
        (LINK + "gateways = 2001:db8::1\n", 5, "without an IPv6 subnet"),
        (LINK + "gateways = 192.0.2.1/24\n", 5, "192.0.2.1/24"),
        (LINK + "arp-source = 2001:db8::1\n", 5, "2001:db8::1"),
        ("[bindings]\ndirectory = nfdhcpd\n", 2, "nfdhcpd"),
        ("[bindings]\nfor = some\n", 2, "tagged, routed, all"),
        ("[bindings]\nconsumer = dnsmasq\n", 2, "responder, nfdhcpd, none"),
    ],
)
def test_a_mistake_is_shown_with_file_and_line(text: str, line: int, what: str) -> None:
    failure = refused(text)
    assert failure.what.startswith(f"{PATH}:{line}: ")
    assert what in failure.what


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (LINK + OTHER.replace("223", "222"), 6, "table 222"),
        (LINK + OTHER.replace("eth2", "eth1"), 7, "uplink eth1"),
        (LINK + OTHER.replace("223", str(222 + 65536)), 6, "mark"),
        (LINK + OTHER.replace("[public q]", "[public  p]"), 5, "name p"),
        (LINK + OTHER.replace("198.51.100.0/24", "192.0.2.128/25"), 8, "192.0.2.0/24 and 192.0.2.128/25"),
        (LINK + OTHER.replace("198.51.100.0/24", "198.51.100.0/24 192.0.0.0/16"), 8, "192.0.2.0/24 and 192.0.0.0/16"),
        (PRIVATE + "[private  pvn]\nbridges = 3\n", 4, "pvn3"),
        ("[private a]\nbridges = 11\n[private a1]\nbridges = 1\n", 4, "a11"),
        (PRIVATE + "uplink = vlan eth1 +1\n[private q]\nbridges = 1\nuplink = vlan eth1 +1\n", 6, "eth1.2"),
        (PRIVATE + "uplink = vxlan eth1 +1\n[private vx]\nbridges = 2\n", 5, "vx2"),
        (PRIVATE + "uplink = vlan pvn +1\n[private pvn.]\nbridges = 2\n", 5, "pvn.2"),
        (PRIVATE + "uplink = vlan eth1 +1\n" + LINK.replace("eth1", "eth1.2"), 6, "[private pvn]"),
        ("[bindings]\nfor = all\n[bindings ]\nfor = routed\n", 3, "[bindings] comes twice"),
    ],
)
def test_of_two_that_want_the_same_the_later_ones_line_is_named(text: str, line: int, what: str) -> None:
    failure = refused(text)
    assert failure.what.startswith(f"{PATH}:{line}: ")
    assert what in failure.what


def test_subnets_of_one_link_and_of_the_other_ip_version_have_nothing_in_common() -> None:
    assert len(parse(LINK.replace("/24", "/24 192.0.2.128/25 2001:db8::/64") + OTHER).public) == 2


def test_more_vxlan_groups_than_a_socket_can_join_are_refused() -> None:
    one = "[private p{0}-]\nbridges = {0}\nuplink = vxlan eth1 +100 group 239.1.1.{0}\n"
    assert len(parse("".join(one.format(number) for number in range(1, 21))).private) == 20
    failure = refused("".join(one.format(number) for number in range(1, 22)))
    assert failure.what.startswith(f"{PATH}:63: more than 20 VXLAN groups")


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.conf").write_bytes(b"\xef\xbb\xbf" + PRIVATE.encode())
    assert [*load(f"{tmp_path}/x.conf").private[0].bridges] == ["pvn1", "pvn2", "pvn3"]


@pytest.mark.parametrize(
    ("text", "do"),
    [
        (LINK.replace("222", "snf"), "mend that line, as: table = 222; each key: man ganeti-vif.conf"),
        (LINK.replace("/24", ""), "as: subnets = 192.0.2.0/24"),
        ("[public p]\nuplink = eth1\nsubnets = 192.0.2.0/24\n", "add a line, as: table = 222"),
        ("[private pvn]\n", "add a line, as: bridges = 1-100,200"),
    ],
)
def test_a_mistake_comes_with_what_would_be_right(text: str, do: str) -> None:
    assert do in refused(text).do


@pytest.mark.parametrize("key", sorted(EXAMPLES))
def test_an_example_is_right(key: str) -> None:
    parsers = {**_PRIVATE, **_PUBLIC, **_BINDINGS, **_RESPONDER}
    assert parsers[key](EXAMPLES[key])


def test_a_file_that_was_deleted_is_brought_back_by_a_command_that_does_so(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        load(f"{tmp_path}/nothing.conf")
    assert caught.value.do == f"see: ls -l {tmp_path}"
    assert _restore(PATH_OF_THE_PACKAGE) == f"install -D -m 644 {SHIPPED} {PATH_OF_THE_PACKAGE}"


def test_a_missing_file_and_one_that_is_no_text_are_failures(tmp_path: object) -> None:
    for content in (None, b"\xff\xfe\x00"):
        path = f"{tmp_path}/ganeti-vif.conf"
        if content is not None:
            with open(path, "wb") as file:
                file.write(content)
        with pytest.raises(Failure) as caught:
            load(path)
        assert path in proper(caught.value).what
    with pytest.raises(Failure):
        load(str(tmp_path))


def test_networks_can_be_named_by_flags_alone() -> None:
    private = restricted(None, "pvn", "1-3", "vlan eth1 +2990", "1400")
    assert private == Private(prefix="pvn", numbers=(1, 2, 3), uplink=VlanUplink("eth1", 2990), mtu=1400)
    with pytest.raises(Failure, match="5-1"):
        restricted(None, "pvn", "5-1", "none", None)


def test_advice_is_shown_as_it_was_meant() -> None:
    assert "\\u" not in refused("[private pvn]\nmtu = 1500\n").do


def test_an_arp_source_needs_an_ipv4_subnet() -> None:
    text = LINK.replace("192.0.2.0/24", "2001:db8::/64") + "arp-source = 192.0.2.254\n"
    assert "arp-source" in refused(text).what


def test_a_public_link_has_at_least_one_subnet() -> None:
    assert "subnets" in refused(LINK.replace("192.0.2.0/24", "")).what


@pytest.mark.parametrize("subnet", ["0.0.0.0/0", "::/0"])
def test_everything_is_no_subnet(subnet: str) -> None:
    assert subnet in refused(LINK.replace("192.0.2.0/24", subnet)).what


@pytest.mark.parametrize("directory", ["//", "///"])
def test_the_root_directory_is_no_binding_directory(directory: str) -> None:
    assert "directory" in refused(f"[bindings]\ndirectory = {directory}\n").what


def test_the_binding_directory_is_one_path() -> None:
    assert "directory" in refused("[bindings]\ndirectory = /var/lib\n  nfdhcpd\n").what


def test_a_gateway_has_no_zone() -> None:
    assert "fe80::1%eth1" in refused(LINK.replace("192.0.2.0/24", "2001:db8::/64") + "gateways = fe80::1%eth1\n").what


@pytest.mark.parametrize("name", ["a b", "a/b", "-a", "$(reboot)"])
def test_a_public_link_has_a_name_that_a_nic_can_carry(name: str) -> None:
    assert name in refused(LINK.replace("[public p]", f"[public {name}]")).what


def test_a_link_means_one_public_link_only() -> None:
    assert "223" in refused(LINK.replace("[public p]", "[public 223]") + OTHER).what


def test_bindings_come_once() -> None:
    assert "bindings" in refused("[bindings]\nfor = all\n[bindings ]\nfor = routed\n").what


@pytest.mark.parametrize("uplink", ["pvn1", "eth1.2991"])
def test_the_uplink_of_a_public_link_is_no_private_network(uplink: str) -> None:
    text = "[private pvn]\nbridges = 1\nuplink = vlan eth1 +2990\n"
    assert uplink in refused(text + LINK.replace("eth1", uplink)).what


@pytest.mark.parametrize("uplink", ["1eth", "eth+1"])
def test_an_uplink_has_a_name_that_nft_can_take(uplink: str) -> None:
    assert uplink in refused(LINK.replace("eth1", uplink) + "arp-source = 192.0.2.254\n").what


NUMBERS = st.sets(st.integers(0, 5000), min_size=1, max_size=60).map(lambda found: tuple(sorted(found)))


@given(NUMBERS)
def test_ranges_are_read_as_status_writes_them(numbers: tuple[int, ...]) -> None:
    assert values.numbers(ranges(numbers)) == numbers


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 30)), min_size=1, max_size=8))
def test_ranges_may_overlap_and_come_in_any_order(parts: list[tuple[int, int]]) -> None:
    text = " , ".join(f"{first} - {first + more}" for first, more in parts)
    assert values.numbers(text) == tuple(sorted({n for first, more in parts for n in range(first, first + more + 1)}))


@given(st.text(max_size=30), st.text("0123456789,- ", max_size=30))
def test_any_text_is_a_range_or_a_value_error(anything: str, close: str) -> None:
    for text in (anything, close):
        try:
            numbers = values.numbers(text)
        except ValueError:
            continue
        assert values.numbers(ranges(numbers)) == numbers


LINES = [line for text in (PRIVATE, LINK, OTHER) for line in text.splitlines()] + [
    "[bindings]",
    "for = all",
    "directory = /x",
    "gateways = 192.0.2.1",
    "arp-source = 192.0.2.9",
    "mtu = 9000",
    "uplink = vlan eth1 +5",
    "uplink = none",
    "[",
    "[]",
    "=",
    "= 1",
    "mtu",
    "[DEFAULT]",
    " mtu = 1",
    ";",
    "\0",
    "[\0]",
]


@given(st.lists(st.one_of(st.sampled_from(LINES), st.text(max_size=20)), max_size=12))
def test_any_file_is_understood_or_refused_and_never_ends_in_a_traceback(lines: list[str]) -> None:
    config = outcome(lambda: parse("\n".join(lines), PATH))
    if isinstance(config, Failure):
        assert config.what.startswith(PATH)
    else:
        for link in config.public:
            for thing in state(public.desired(link, False)).values():
                assert not isinstance(thing, Chain) or "{  }" not in thing.rules[0].text


RESPONDER = """
[private pvn]
bridges = 1-3
domain = inner.example.org
lease-time = 600
[responder]
nameservers = 192.0.2.53, 2001:db8::53
domain = example.org.
search = a.example.org b.example.org
ra-period = 60
dhcpv6 = stateful
rate = 10
[public public]
table = 222
uplink = eth1
subnets = 192.0.2.0/24
dhcpv6 = off
"""


def test_what_guests_are_told_is_said_once_and_for_each_network() -> None:
    config = parse(RESPONDER)
    general, (inner,), (outer,) = config.responder.told, config.private, config.public
    assert [str(server) for server in general.nameservers] == ["192.0.2.53", "2001:db8::53"]
    assert (general.domain, general.search) == ("example.org", ("a.example.org", "b.example.org"))
    assert (general.ra_period, general.dhcpv6, config.responder.rate) == (60, Dhcpv6.STATEFUL, 10)
    assert inner.told == replace(
        general, domain="inner.example.org", lease_time=600, renewal_time=300, rebinding_time=525
    )
    assert outer.told == replace(general, dhcpv6=Dhcpv6.OFF)


@pytest.mark.parametrize(
    ("text", "responds"),
    [
        ("", True),
        ("[responder]\nenabled = no\n", False),
        ("[bindings]\nconsumer = nfdhcpd\n", False),
        ("[bindings]\nconsumer = none\n[responder]\nenabled = yes\n", False),
    ],
)
def test_who_responds(text: str, responds: bool) -> None:
    assert parse(text).responds is responds


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("enabled = maybe", "neither yes nor no"),
        ("lease-time = 1", "no number from"),
        ("renewal-time = 600000", "not before rebinding-time"),
        ("rebinding-time = 604800", "not before lease-time"),
        ("nameservers = dns.example.org", "dns.example.org"),
        ("domain = two words", "no domain name"),
        ("search = a..b", "no domain name"),
        ("ra-period = 3", "no number from 4"),
        ("dhcpv6 = yes", "off, stateless, stateful"),
        ("table = 5", "unknown key"),
    ],
)
def test_a_mistake_in_what_guests_are_told_is_named(line: str, words: str) -> None:
    with pytest.raises(Failure) as caught:
        parse(f"\n[responder]\n{line}\n", "the.conf")
    assert caught.value.what.startswith("the.conf:3: ") and words in caught.value.what
    if "responder" not in words and not line.startswith(("enabled", "table")):
        with pytest.raises(Failure, match=r"the\.conf:4: "):
            parse(f"\n[private pvn]\nbridges = 1\n{line}\n", "the.conf")


def test_a_responder_twice_is_a_mistake() -> None:
    with pytest.raises(Failure, match="twice"):
        parse("[responder]\nenabled = yes\n[responder]\nenabled = no\n")
