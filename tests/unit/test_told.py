# SPDX-License-Identifier: BSD-2-Clause
"""What guests are told by section and by tag: which place wins, how it gets into a binding, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import BRIDGED, CONFIG, ROUTED, context, nic_of, refusal

from ganeti_vif.config.model import Bindings, Consumer, Dhcpv6, Told
from ganeti_vif.config.parse import parse
from ganeti_vif.config.told import FIXED, from_tag, overlaid, plain, shown
from ganeti_vif.desired.needs import needs
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Binding
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import nic_of as recorded
from ganeti_vif.nic.record import record_of
from ganeti_vif.nic.tags import Grants, Saying
from ganeti_vif.responder.service import told
from nfdhcpd_bridge.reading import Invalid, reading

SECTIONS = """
[responder]
domain = general.example.org
nameservers = 192.0.2.53
search = general.example.org
ntp = 192.0.2.123
option-252 = text http://general.example.org/wpad.dat
[private br]
bridges = 0-9
domain = private.example.org
nameservers = 192.0.2.54
search = private.example.org
boot-file = private.0
boot-file-ipxe = private.ipxe
[private br 0]
domain = part.example.org
search = part.example.org
[network net-a]
search = network.example.org
boot-file = network.0
mtu = 1400
"""


def text_of(nic: Nic, sections: str = SECTIONS) -> str:
    config = replace(CONFIG, **{name: getattr(parse(sections), name) for name in ("private", "responder", "networks")})
    (one,) = (thing for thing in needs(nic, config, context(nic)).own.values() if isinstance(thing, Binding))
    return one.text


def told_to(nic: Nic, sections: str = SECTIONS) -> Told:
    """What the responder tells the guest of NIC, by nothing but its binding and the configuration."""
    return told(reading(text_of(nic, sections)), parse(sections))


def test_each_place_overrides_those_that_are_more_general() -> None:
    tags = "nfdhcpd vif:dhcp:ntp:192.0.2.1 vif:dhcp:mtu:1300"
    found = told_to(nic_of(BRIDGED, NETWORK_TAGS=tags, TAGS="vif:0:dhcp:mtu:1280"))
    assert {key: (text, source) for key, text, source in shown(found) if source != "default"} == {
        "nameservers": ("192.0.2.54", "[private br]"),
        "domain": ("part.example.org", "[private br 0]"),
        "search": ("network.example.org", "[network net-a]"),
        "boot-file": ("network.0", "[network net-a]"),
        "boot-file-ipxe": ("private.ipxe", "[private br]"),
        "ntp": ("192.0.2.1", "tag"),
        "mtu": ("1280", "tag"),
        "option-252": (f"hex {b'http://general.example.org/wpad.dat'.hex()}", "[responder]"),
    }


def test_the_part_of_a_family_is_for_its_bridges_only() -> None:
    other = nic_of(BRIDGED, LINK="br1", BRIDGE="br1")
    assert told_to(other).domain == "private.example.org"


def test_another_network_has_none_of_it() -> None:
    assert told_to(nic_of(BRIDGED, NETWORK_NAME="net-b")).search == ("part.example.org",)


@pytest.mark.parametrize("name", ["net a", "n\xe9t", "net=a", "'net'"])
def test_a_network_that_cannot_have_a_section_still_gets_its_binding(name: str) -> None:
    assert "GANETI_VIF_NETWORK" not in text_of(nic_of(BRIDGED, NETWORK_NAME=name))


def test_the_real_nfdhcpd_gets_the_file_that_it_had_before() -> None:
    nic = nic_of(BRIDGED, NETWORK_TAGS="nfdhcpd vif:dhcp:domain:x.example.org")
    config = replace(CONFIG, bindings=Bindings(consumer=Consumer.NFDHCPD))
    (one,) = (thing for thing in needs(nic, config, context(nic)).own.values() if isinstance(thing, Binding))
    assert "GANETI_VIF_" in text_of(nic) and "GANETI_VIF_" not in one.text


# Tags.


@pytest.mark.parametrize(
    ("tag", "key", "value"),
    [
        ("nameservers:192.0.2.53+2001:db8::53", "nameservers", (ip_address("192.0.2.53"), ip_address("2001:db8::53"))),
        ("nameservers:", "nameservers", ()),
        ("domain:a.example.org", "domain", "a.example.org"),
        ("search:a.example.org+b.example.org", "search", ("a.example.org", "b.example.org")),
        ("dhcpv6:stateful", "dhcpv6", Dhcpv6.STATEFUL),
        ("mtu:1400", "mtu", 1400),
        ("routes:10.0.0.0/8+via+192.0.2.9", "routes", ((ip_network("10.0.0.0/8"), ip_address("192.0.2.9")),)),
        ("boot-file:http://192.0.2.69/boot.php*3fa*3D1", "boot-file", "http://192.0.2.69/boot.php?a=1"),
        ("option-43:hex+0a0b", "option-43", b"\x0a\x0b"),
        ("option-72:addresses+192.0.2.1+192.0.2.2", "option-72", bytes([192, 0, 2, 1, 192, 0, 2, 2])),
        ("option6-22:addresses+2001:db8::1", "option6-22", ip_address("2001:db8::1").packed),
        ("option-252:text+http://wpad/a*2bb", "option-252", b"http://wpad/a+b"),
    ],
)
def test_a_tag_gets_through_record_and_binding_to_the_responder(tag: str, key: str, value: object) -> None:
    for nic in (nic_of(BRIDGED, TAGS=f"vif:0:dhcp:{tag}"), nic_of(BRIDGED, NETWORK_TAGS=f"nfdhcpd vif:dhcp:{tag}")):
        assert recorded(record_of(nic)) == nic
        text = text_of(nic)
        assert all(line.count("=") == 1 and not set(line) & set(" '\"") for line in text.splitlines())
        assert dict(reading(text).told) == {key: value}


@pytest.mark.parametrize(
    "tag",
    [
        "dns:192.0.2.53",
        "nameservers:dns.example.org",
        "domain:",
        "domain",
        "mtu:20",
        "lease-time:1",
        "routes:10.0.0.0/8",
        "routes:2001:db8::/32+via+2001:db8::1",
        "routes:10.0.0.1/8+via+192.0.2.1",
        "next-server:192.0.2.1+192.0.2.2",
        "boot-file:a+b",
        "boot-file:a*2",
        "boot-file:a*0ab",
        "option-6:text+a",
        "option-1:hex+00",
        "option-53:hex+01",
        "option-255:hex+00",
        "option-0:hex+00",
        "option6-3:hex+00",
        "option-43:0a0b",
        "option-43:hex+0",
        "option-43:addresses+2001:db8::1",
        "option-43:text",
    ],
)
def test_a_wrong_tag_is_an_error_that_names_it(tag: str) -> None:
    assert f"the instance tag 'vif:0:dhcp:{tag}'" in refusal(BRIDGED, TAGS=f"vif:0:dhcp:{tag}").what
    assert f"the network tag 'vif:dhcp:{tag}'" in refusal(BRIDGED, NETWORK_TAGS=f"vif:dhcp:{tag}").what


def test_an_instances_tag_names_its_nic() -> None:
    assert nic_of(BRIDGED, TAGS="vif:1:dhcp:domain:x.example.org vif:1:dhcp:nonsense").grants == Grants()
    assert "names no NIC" in refusal(BRIDGED, TAGS="vif:dhcp:domain:x.example.org").what


def test_two_tags_that_say_different_things_are_an_error_and_routes_add_up() -> None:
    two = "vif:0:dhcp:domain:a.example.org vif:eth0:dhcp:domain:b.example.org"
    assert "another tag says domain:a.example.org" in refusal(BRIDGED, TAGS=two).what
    routes = "vif:0:dhcp:routes:10.1.0.0/16+via+192.0.2.1 vif:0:dhcp:routes:10.2.0.0/16+via+192.0.2.1"
    nic = nic_of(BRIDGED, TAGS=routes, NETWORK_TAGS="nfdhcpd vif:dhcp:routes:10.3.0.0/16+via+192.0.2.1")
    (saying,) = nic.grants.told
    assert saying == Saying("routes", "10.1.0.0/16+via+192.0.2.1+10.2.0.0/16+via+192.0.2.1")
    assert len(told_to(nic).routes) == 2


def test_a_nic_without_such_tags_has_the_record_that_it_had_before() -> None:
    assert "told" not in record_of(nic_of(BRIDGED, TAGS="vif:0:unguarded")).text


@given(st.sampled_from([*FIXED, "mtu", "option-43", "option6-22", "nothing"]), st.text("abz019.:/+*-@_ ", max_size=30))
def test_any_tag_is_read_or_refused(key: str, text: str) -> None:
    try:
        from_tag(key, text)
    except ValueError as error:
        refused = str(error)
        assert refused.isprintable()


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_every_printable_text_has_a_form_for_tags(text: str) -> None:
    escaped = "".join(one if one.isalnum() else f"*{ord(one):02x}" for one in text)
    assert plain(escaped) == text


# Sections.


def test_times_from_different_places_that_do_not_fit_follow_from_the_lease_time() -> None:
    general = overlaid(Told(), {"renewal-time": 90000, "rebinding-time": 100000}, "general")
    assert (general.lease_time, general.renewal_time) == (604800, 90000)
    found = overlaid(overlaid(general, {"lease-time": 600}, "one"), {"renewal-time": 1000}, "other")
    assert (found.renewal_time, found.rebinding_time, found.lease_time) == (300, 525, 600)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[network a b]\n", 1, "no network's name"),
        ("[network]\n", 1, "unknown section"),
        ("[network a]\ntable = 1\n", 2, "unknown key"),
        ("[network a]\nlease-time = 100\nrenewal-time = 100\n", 3, "not before rebinding-time"),
        ("[network a]\n[network  a]\n", 2, "comes twice"),
        ("[network a]\noption-6 = hex 00\n", 2, "key of its own: nameservers"),
        ("[network a]\noption-43 = 0a\n", 2, "none of: text TEXT"),
        ("[responder]\nmtu = 1400\n", 2, "unknown key"),
        ("[private pvn 7]\n", 1, "no [private pvn]"),
        ("[private pvn]\nbridges = 1-3\n[private pvn 3-4]\n", 3, "pvn4 is no bridge"),
        ("[private pvn]\nbridges = 1-3\n[private pvn x]\n", 3, "no number"),
        ("[private pvn]\nbridges = 1-3\n[private pvn 1-2]\n[private pvn 2]\n", 4, "pvn2 is in two"),
        ("[private pvn]\nbridges = 1-3\n[private pvn 1]\nuplink = none\n", 4, "unknown key"),
    ],
)
def test_a_mistake_is_shown_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(Failure) as caught:
        parse(text, "the.conf")
    assert caught.value.what.startswith(f"the.conf:{line}: ") and words in caught.value.what


def test_a_part_may_come_before_its_family_and_makes_no_bridge_of_its_own() -> None:
    (family,) = parse("[private pvn 2]\ndomain = two.example.org\n[private pvn]\nbridges = 1-3\n").private
    assert [*family.bridges] == ["pvn1", "pvn2", "pvn3"]
    assert [family.told_on(bridge).domain for bridge in family.bridges] == [None, "two.example.org", None]


@pytest.mark.parametrize(
    "line", ["GANETI_VIF_TELL_MTU=many", "GANETI_VIF_TELL_OPTION_252=text http://x", "GANETI_VIF_TELL_COLOUR=red"]
)
def test_a_binding_with_a_wrong_value_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(Invalid) as caught:
        reading(f"MAC=aa:00:00:00:00:05\n{line}\n")
    assert caught.value.line == 2


def test_a_routed_nic_is_told_by_its_public_link_and_its_network() -> None:
    sections = """
[public public]
table = 100
uplink = eth1
subnets = 10.77.1.0/24
domain = public.example.org
search = public.example.org
[network net-a]
search = network.example.org
"""
    found = told_to(nic_of(ROUTED, NETWORK_NAME="net-a"), sections)
    assert (found.domain, found.search) == ("public.example.org", ("network.example.org",))
