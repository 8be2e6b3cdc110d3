# SPDX-License-Identifier: BSD-2-Clause
"""What Ganeti (or somebody by hand) says about a NIC is understood, or refused in two lines that name it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from samples import BRIDGED, CONFIG, ROUTED, context, nic_of, outcome, refusal, words

from ganeti_vif.desired.needs import needs
from ganeti_vif.engine.difference import difference
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Binding
from ganeti_vif.ganeti import environment
from ganeti_vif.nic.nic import Mode, Network, Nic
from ganeti_vif.nic.record import nic_of as nic_of_record
from ganeti_vif.nic.record import record_of
from nfdhcpd_bridge.binding import MARK, NETWORK, SOURCES6, parse

REQUIRED = ("INSTANCE", "INTERFACE", "INTERFACE_UUID", "MAC", "MODE", "LINK")


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_variable_is_named(name: str, value: str | None) -> None:
    failure = refusal(BRIDGED, **{name: value})
    assert f"the variable {name} is missing or empty" in failure.what
    assert "ganeti-vif attach --help" in failure.do


BAD = {
    "MAC": [
        "01:00:5e:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "aa:00:09:09:63",
        "aa:00:09:09:63:36:00",
        "aa-00-09-09-63-36",
        "aa00.0909.6336",
        "aa:0:9:9:63:36",
        " aa:00:09:09:63:36",
        "gg:00:09:09:63:36",
    ],
    "IP": ["10.9.0.256", "10.9.0.2/24", "10.9.0", "pool", "10.9.0.02", "2001:db8::g", "None", " "],
    "MODE": ["pool", "ext", "BRIDGED", "bridge", "routed "],
    "INTERFACE": [
        "../tap0",
        "net/tap0",
        "a" * 16,
        "tap 0",
        " ",
        ".",
        "..",
        "-tap0",
        "tap0;reboot",
        "tap0\n",
    ],
    "LINK": ["br 0", "../br0", "br0;reboot", "$(reboot)", "-br0", "b" * 33],
    "VLAN": [
        "0",
        "4095",
        ".",
        "a",
        "10:",
        ":",
        ".0",
        ":0",
        ":4095",
        ".10:20:",
        "10,20",
        "1 0",
        "-1",
        "99999",
        "..10",
    ],
    "INSTANCE": [
        "i1\nroot: ok",
        "i1'",
        'i1"',
        "$(reboot)",
        "i1;reboot",
        "`id`",
        "i 1",
        "../i1",
        "i1.",
        ".i1",
        "-i1",
        "x" * 256,
    ],
    "INTERFACE_UUID": ["1161b892", "../../etc/passwd", "1161b892-74ab-4e0a-8f25-e1c0c5a7b20g", "-" * 36],
    "INTERFACE_INDEX": ["one", "1.5", "0x1"],
    "NETWORK_SUBNET": ["10.9.0.0", "10.9.0.0/33", "0.0.0.0/0", "fd00:9::/64", "no"],
    "NETWORK_GATEWAY": ["10.9.0.1/24", "fd00:9::1", "224.0.0.1", "no"],
    "NETWORK_SUBNET6": ["10.9.0.0/24", "fd00:9::/129", "fd00:9::%eth0/64"],
    "NETWORK_GATEWAY6": ["10.9.0.1", "fd00:9::1/64", "fd00:9::1%eth0", "fe80::1%\nX=1", "::1", "ff02::2"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_is_named_with_its_variable(name: str, value: str) -> None:
    failure = refusal(BRIDGED, **{name: value})
    assert name in failure.what
    words_of_the_value = "".join(c if c.isascii() and c.isprintable() else ascii(c)[1:-1] for c in value)
    assert words_of_the_value.split(" ")[0] in failure.what
    assert failure.what.startswith(f"{words_of_the_value if name == 'INSTANCE' else 'i1.example.com'} NIC ")


def test_a_failure_says_where_to_mend_it() -> None:
    assert "gnt-instance modify --net" in refusal(BRIDGED, VLAN="a").do
    assert "gnt-network modify" in refusal(BRIDGED, NETWORK_SUBNET="no").do
    assert "gnt-instance list-tags" in refusal(BRIDGED, TAGS="vif:0:addres:10.9.0.9").do


@pytest.mark.parametrize("text", ["2001:db8::1%eth0", "2001:db8::1%\nGATEWAY=192.0.2.66", "2001:db8::1%1 } accept"])
@pytest.mark.parametrize("name", ["IP", "NETWORK_GATEWAY6"])
def test_an_ipv6_address_has_no_zone(name: str, text: str) -> None:
    """Python takes any text after the % for a zone: it would get into filter rules, routes and bindings."""
    assert name in refusal(ROUTED, **{name: text}).what


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "127.0.0.1", "::1", "224.0.0.5", "ff02::1", "255.255.255.255"])
def test_an_address_that_no_guest_can_have_is_refused(text: str) -> None:
    assert "IP" in refusal(ROUTED, IP=text).what


@pytest.mark.parametrize(
    ("text", "untagged", "tagged"),
    [
        ("", None, set()),
        ("10", 10, set()),
        (".10", 10, set()),
        (":20", None, {20}),
        (":20:30", None, {20, 30}),
        (".10:20:30", 10, {20, 30}),
        ("10:20", 10, {20}),
        (".10:10:20", 10, {20}),
        ("1", 1, set()),
        ("4094", 4094, set()),
    ],
)
def test_vlans_in_all_forms_that_ganeti_lets_through(text: str, untagged: int | None, tagged: set[int]) -> None:
    vlans = nic_of(BRIDGED, VLAN=text).vlans
    assert (vlans.untagged, set(vlans.tagged)) == (untagged, tagged)


def test_an_upper_case_mac_is_the_same_mac() -> None:
    assert nic_of(BRIDGED, MAC="AA:00:09:09:63:36", NETWORK_MAC_PREFIX="AA:00:09") == nic_of(BRIDGED)


def test_the_gateway_of_an_ipv6_network_may_be_link_local() -> None:
    """Ganeti accepts it, with a zone too, that means an interface of the administrator's (lib/network.py:170)."""
    for environment_ in (BRIDGED, ROUTED):
        for text in ("fe80::1", "fe80::1%eth0", "FE80::1%2"):
            network = nic_of(environment_, NETWORK_GATEWAY6=text).network
            assert network
            assert str(network.gateway6) == "fe80::1"


def test_any_ipv6_prefix_that_ganeti_accepts_is_one() -> None:
    for text, prefix in (("2001:db8::/80", None), ("2001:db8::5", "2001:db8::5/128"), ("::/0", None)):
        network = nic_of(BRIDGED, NETWORK_SUBNET6=text, NETWORK_GATEWAY6=None).network
        assert network
        assert str(network.subnet6) == (prefix or text)


def test_a_subnet_with_host_bits_is_the_subnet() -> None:
    network = nic_of(BRIDGED, NETWORK_SUBNET="10.9.0.1/24", NETWORK_SUBNET6="fd00:9::1/64").network
    assert network == nic_of(BRIDGED).network


def test_a_bridged_guest_may_have_a_link_local_address_of_ganeti() -> None:
    assert nic_of(BRIDGED, IP="fe80::5").address6 == IPv6Address("fe80::5")
    assert "link-local" in refusal(ROUTED, IP="fe80::5").what


@pytest.mark.parametrize("name", ["_vm.example.com", "vm_", "vm-", "a", "_", "a--b.c"])
def test_every_name_that_ganeti_gives_an_instance_is_a_name(name: str) -> None:
    assert nic_of(BRIDGED, INSTANCE=name).instance == name


def test_vlans_are_nothing_to_a_routed_nic() -> None:
    """`gnt-instance modify` accepts any text there, and Ganeti's own script looks at it on bridges only."""
    for text in ("none", "ten", ":20"):
        assert nic_of(ROUTED, VLAN=text) == nic_of(ROUTED)


@pytest.mark.parametrize("name", ["NETWORK_SUBNET", "NETWORK_GATEWAY", "NETWORK_GATEWAY6"])
@pytest.mark.parametrize("mode", ["bridged", "openvswitch"])
def test_the_network_stops_no_bridged_nic_without_a_lease(mode: str, name: str) -> None:
    quiet = {"MODE": mode, "NETWORK_TAGS": "private-filtered", "NETWORK_MAC_PREFIX": None}
    assert nic_of(BRIDGED, **quiet, **{name: "ff02::1"}) == nic_of(BRIDGED, **quiet, **{name: None})
    leasing = quiet | {"NETWORK_TAGS": "nfdhcpd"}
    assert name in refusal(BRIDGED, **leasing, **{name: "ff02::1"}).what


def test_a_nic_may_have_an_ipv6_address_only() -> None:
    nic = nic_of(ROUTED, IP="2001:db8:77::5")
    assert (nic.address, nic.address6) == (None, IPv6Address("2001:db8:77::5"))


def test_a_nic_without_a_network_needs_none_of_its_variables() -> None:
    bare = {name: value for name, value in BRIDGED.items() if not name.startswith("NETWORK_")}
    nic = nic_of(bare, IP=None, VLAN=None, TAGS=None, INTERFACE_NAME=None, INTERFACE_INDEX=None)
    assert (nic.network, nic.ip, nic.tags, nic.name, nic.number) == (None, None, frozenset(), None, None)
    assert not nic.vlans.tagged
    assert nic.vlans.untagged is None


def test_a_network_without_subnets_is_a_network() -> None:
    only_name = [
        name for name in BRIDGED if name.startswith("NETWORK_") and name not in ("NETWORK_NAME", "NETWORK_UUID")
    ]
    network = nic_of(BRIDGED, **dict.fromkeys(only_name)).network
    assert network
    assert network.name == "net-a"
    assert network.subnet is None
    assert network.tags == frozenset()


def test_a_network_with_a_uuid_must_have_a_name() -> None:
    assert "NETWORK_NAME" in refusal(BRIDGED, NETWORK_NAME=None).what


@pytest.mark.parametrize("name", ["INTERFACE_NAME", "NETWORK_NAME"])
@pytest.mark.parametrize("value", ["eth0", "net-a", "ganeti:communication:i1", "a.b+c_d"])
def test_names_that_are_common(name: str, value: str) -> None:
    nic = nic_of(BRIDGED, **{name: value})
    assert value in (nic.name, nic.network.name if nic.network else None)


@pytest.mark.parametrize("value", ["my nic", "intern (alt)", "\u00f6ffentlich"])
def test_a_name_that_ganeti_takes_does_not_keep_the_vm_from_starting(value: str) -> None:
    nic = outcome(lambda: nic_of(BRIDGED, INTERFACE_NAME=value))
    assert isinstance(nic, Nic), nic
    assert nic.name


def test_all_modes_of_ganeti_are_known() -> None:
    assert [nic_of(BRIDGED, MODE=mode).mode for mode in ("bridged", "routed", "openvswitch")] == list(Mode)


@pytest.mark.parametrize(
    ("tap", "ours"),
    [
        ("gnt.com.0", False),
        ("gnt.com.17", False),
        ("tap0", True),
        ("gnt.com.", True),
        ("gnt.com.0x", True),
        ("xgnt.com.0", True),
        ("", True),
    ],
)
def test_taps_of_ganetis_instance_communication_are_not_ours(tap: str, ours: bool) -> None:
    assert environment.is_communication_tap({"INTERFACE": tap}) == (not ours)


def test_the_tap_and_the_uuid_can_be_had_alone() -> None:
    assert environment.tap_of({"INTERFACE": "tap7"}) == "tap7"
    assert environment.uuid_of({"INTERFACE_UUID": BRIDGED["INTERFACE_UUID"]}) == BRIDGED["INTERFACE_UUID"]
    for alone in (environment.tap_of, environment.uuid_of):
        with pytest.raises(Failure, match="missing"):
            alone({})


def test_the_addresses_are_typed() -> None:
    network = nic_of(BRIDGED).network
    assert network
    assert network.gateway == IPv4Address("10.9.0.1")
    assert network.gateway6 == IPv6Address("fd00:9::1")


ANY_TEXT_IS_FINE = ("LC_ALL", "BRIDGE", "NETWORK_MAC_PREFIX", "TAGS", "NETWORK_TAGS")
"""The variables that are not examined for a NIC on a bridge; of tags, those that are ours are."""
NAMES = st.sampled_from(sorted(BRIDGED))
# What os.environ may hold: any text without NUL, and bytes that are no UTF-8 as lone surrogates.
ANY_TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=()), max_size=40)


@st.composite
def nearly_right(draw: st.DrawFn, name: str) -> str:
    """A good value with something put into it, or something taken out."""
    good = draw(st.sampled_from([BRIDGED[name], ROUTED.get(name, ""), "2001:db8::1", "10.9.0.7", ":20:30"]))
    at, until = sorted(draw(st.tuples(*[st.integers(0, len(good))] * 2)))
    return good[:at] + draw(ANY_TEXT) + good[until:]


@given(data=st.data(), name=NAMES, routed=st.booleans())
def test_any_text_is_understood_or_refused_and_what_is_understood_can_be_written_down(
    data: st.DataObject, name: str, routed: bool
) -> None:
    environment_ = ROUTED if routed else BRIDGED
    text = data.draw(st.one_of(ANY_TEXT, nearly_right(name)))
    _check(environment_, name, text)


@given(data=st.data())
def test_any_environment_at_all_is_understood_or_refused(data: st.DataObject) -> None:
    names = st.lists(NAMES, unique=True, max_size=len(BRIDGED))
    environment_ = {name: data.draw(st.one_of(ANY_TEXT, st.just(BRIDGED[name]))) for name in data.draw(names)}
    assert isinstance(outcome(lambda: nic_of(environment_)), Nic | Failure)


@given(value=st.sampled_from(["é", "\udcff", "’", "１０"]), name=NAMES)
@example(value="１０", name="VLAN")
@example(value="１", name="INTERFACE_INDEX")
def test_text_that_is_not_ascii_never_gets_past_the_door(value: str, name: str) -> None:
    nic = outcome(lambda: nic_of(BRIDGED, **{name: value}))
    if isinstance(nic, Nic):
        assert name in (*ANY_TEXT_IS_FINE, "INTERFACE_NAME", "NETWORK_NAME")
        assert record_of(nic).text.isascii()


# Tags of others, as Ganeti accepts them and as only a broken environment has them.
FOREIGN_TAG = st.one_of(st.from_regex(r"[\w.+*/:@-]{1,20}", fullmatch=True), ANY_TEXT).filter(
    lambda tag: not tag.startswith(("vif:", "synnefo:network:", "disable_ipv")) and not {" ", "\0"} & set(tag)
)
OF_OTHER_NICS = st.builds("{}{}:{}".format, st.sampled_from(["vif:7:", "vif:eth7:"]), ANY_TEXT, ANY_TEXT).filter(
    lambda tag: " " not in tag
)
OTHER_VARIABLE = st.sampled_from(["BRIDGE", "LANG", "GANETI_CLUSTER_TAGS", "PATH", "NETWORK_TYPE", "X"])
PARTLESS = {
    "routed": ("VLAN", "NETWORK_MAC_PREFIX"),
    "bridged": ("NETWORK_SUBNET", "NETWORK_GATEWAY", "NETWORK_GATEWAY6", "NETWORK_MAC_PREFIX"),
}
"""What plays no part for a NIC of that mode whose network gives no lease."""


@given(data=st.data(), routed=st.booleans())
def test_what_is_not_about_this_nic_changes_nothing(data: st.DataObject, routed: bool) -> None:
    """Foreign variables, tags of others on instance and network, our tags about other NICs, values without a part."""
    before = dict(ROUTED if routed else BRIDGED | {"NETWORK_TAGS": "private-filtered"})
    before |= {name: "" for name in PARTLESS[before["MODE"]]}
    plain = nic_of(before)
    after = before | data.draw(st.dictionaries(OTHER_VARIABLE, ANY_TEXT))
    for name, kind in (("TAGS", st.one_of(FOREIGN_TAG, OF_OTHER_NICS)), ("NETWORK_TAGS", FOREIGN_TAG)):
        tags = [*before[name].split(), *data.draw(st.lists(kind, max_size=4))]
        after[name] = " ".join(data.draw(st.permutations(tags)))
    for name in PARTLESS[before["MODE"]]:
        after[name] = data.draw(st.one_of(ANY_TEXT, nearly_right(name)))
    found = nic_of(after)
    assert found.network
    assert plain.network
    assert found.tags >= plain.tags
    kept = plain.network if routed else Network(name="", uuid="")
    network = replace(found.network, tags=plain.network.tags, mac_prefix=None, subnet=kept.subnet, gateway=kept.gateway)
    same = replace(found, tags=plain.tags, network=replace(network, gateway6=kept.gateway6))
    assert same == plain


@given(tag=OF_OTHER_NICS.map(lambda tag: tag.replace(":7:", ":0:", 1).replace(":eth7:", ":eth0:", 1)))
@example(tag="vif:0:address:１０.9.0.9")
@example(tag="vif:eth0:profile:wéb")
@example(tag="vif:0:mac:aa:00:09:00:00:\udcff1")
@example(tag="vif:0:unguarded\udce9")
@example(tag="vif:0:unguarded\u2028")
def test_our_own_tag_about_this_nic_is_understood_as_a_whole_or_refused(tag: str) -> None:
    nic = outcome(lambda: nic_of(BRIDGED, TAGS=tag))
    assert isinstance(nic, Failure) or tag.isascii(), nic


def test_a_tag_may_name_a_nic_in_letters_of_any_language() -> None:
    nic = nic_of(BRIDGED, INTERFACE_NAME="straße", TAGS="vif:straße:address:10.9.0.9 owner:müller owner:\udcff")
    assert len(nic.grants.addresses) == 1


def _check(environment_: dict[str, str], name: str, text: str) -> None:
    nic = outcome(lambda: nic_of(environment_, **{name: text}))
    if isinstance(nic, Failure):
        assert name in nic.what
        return
    assert nic_of_record(record_of(nic)) == nic
    wanted = needs(nic, CONFIG, context(nic))
    for line in words(difference(wanted.all, {})):
        assert line.isascii(), line
        assert line.isprintable(), line
    keys = {
        MARK,
        "INDEV",
        "MAC",
        "HOSTNAME",
        "IP",
        "SUBNET",
        "GATEWAY",
        "SUBNET6",
        "GATEWAY6",
        "MTU",
        NETWORK,
        SOURCES6,
    }
    for binding in (thing for thing in wanted.own.values() if isinstance(thing, Binding)):
        assert parse(binding.text).keys() <= keys
        assert binding.text.count("=") == len(binding.text.splitlines())
