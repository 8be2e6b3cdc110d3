# SPDX-License-Identifier: BSD-2-Clause
"""Settings of snf-network and gnt-networking become our configuration, and nothing is lost in silence."""

from __future__ import annotations

import pytest

from ganeti_vif.cli.importing import wrong
from ganeti_vif.config import parse
from ganeti_vif.config.model import VlanUplink
from ganeti_vif.predecessors import interfaces, shell
from ganeti_vif.predecessors.convert import Legacy, convert
from ganeti_vif.predecessors.report import Fate, Note

PLACE = "/etc/network/interfaces"
VMROUTER = """\
# the public uplink
auto eth0.201
iface eth0.201 inet manual
  ip-routing-table snf_public
  ip-routes 192.0.2.0/24
  ip-gateway 192.0.2.1
  ip-forwarding 1
  ip-proxy-arp 1
  arp-ip 192.0.2.254

iface eth0.201 inet6 manual
  ip-routing-table snf_public
  ip-routes 2001:db8::/64
  ip-gateway 2001:db8::1
  ip-proxy-ndp 1

auto prv
iface prv inet manual
  up   prv-net-helper up   eth0 1 5 2990
  down prv-net-helper down eth0 1 5 2990

auto eth0
iface eth0 inet dhcp
  up ethtool -K eth0 tso off
"""
LINES = """\
iface eth0.222 inet manual
    up ip link set eth0.222 up
    up ip route add 192.0.2.0/24 dev eth0.222
    up ip rule add iif eth0.222 lookup 222
    up ip route add 192.0.2.0/24 dev eth0.222 table 222
    up /sbin/ip route add default via 192.0.2.1 dev eth0.222 table 222
    up echo 1 > /proc/sys/net/ipv4/conf/eth0.222/proxy_arp
    up arptables -A OUTPUT -o eth0.222 --opcode request -j mangle --mangle-ip-s 192.0.2.254
    down ip rule del iif eth0.222 lookup 222
iface eth0.222 inet6 manual
    up ip -6 route add 2001:db8::/64 dev eth0.222 table 222
    up ip -6 route add default via 2001:db8::1 dev eth0.222 table 222
"""


def imported(text: str, **given: object) -> tuple[str, list[Note]]:
    stanzas, _ = interfaces.parse(text, PLACE)
    return convert(Legacy(stanzas=tuple(stanzas), **given), wrong)  # type: ignore[arg-type]


def fates(notes: list[Note]) -> dict[str, Fate]:
    return {note.place.rpartition(":")[2]: note.fate for note in notes}


def test_the_options_of_vmrouter_become_a_public_link_and_the_pool_private_networks() -> None:
    text, notes = imported(VMROUTER, tables={"snf_public": 222})
    config = parse.parse(text)
    (public,), (private,) = config.public, config.private
    assert (public.name, public.table, public.uplink) == ("snf_public", 222, "eth0.201")
    assert [str(subnet) for subnet in public.subnets] == ["192.0.2.0/24", "2001:db8::/64"]
    assert [str(gateway) for gateway in public.gateways] == ["192.0.2.1", "2001:db8::1"]
    assert str(public.arp_source) == "192.0.2.254"
    assert (private.prefix, private.numbers, private.uplink) == ("prv", (1, 2, 3, 4, 5), VlanUplink("eth0", 2990))
    assert not [note for note in notes if note.grave]


def test_the_lines_of_the_documentation_become_the_same() -> None:
    text, notes = imported(LINES, tables={"rt_pub": 222})
    (public,) = parse.parse(text).public
    assert (public.name, public.table, public.uplink) == ("rt_pub", 222, "eth0.222")
    assert len(public.subnets) == len(public.gateways) == 2
    assert str(public.arp_source) == "192.0.2.254"
    assert not [note for note in notes if note.grave]
    assert sorted(fates(notes), key=int) == [str(line) for line in (2, 3, 4, 5, 6, 7, 8, 9, 11, 12)]


@pytest.mark.parametrize(
    ("line", "fate"),
    [
        ("up iptables -t nat -I POSTROUTING -o eth0 -s 192.0.2.0/24 -j MASQUERADE", Fate.LOST),
        ("up ip addr add 192.0.2.1/24 dev eth0.222", Fate.LOST),
        ("up ip rule add to 192.0.2.0/24 lookup 222", Fate.LOST),
        ("up ip rule add iif eth0.222 lookup 223", Fate.LOST),
        ("up ip tunnel add x", Fate.UNREAD),
        ("up echo 'unbalanced", Fate.UNREAD),
        ("ip-something new", Fate.UNREAD),
    ],
)
def test_what_has_no_counterpart_is_named_with_its_line(line: str, fate: Fate) -> None:
    _, notes = imported(f"{LINES}    {line}\n", tables={})
    assert fates(notes)["13"] is fate
    assert [note.place for note in notes if note.grave] == [f"{PLACE}:13"]


def test_a_table_without_a_number_is_no_configuration_but_a_note() -> None:
    text, notes = imported(VMROUTER, tables={})
    assert parse.parse(text).public == ()
    assert "# [public snf_public]" in text
    assert any("rt_tables" in note.what and note.grave for note in notes)


def test_a_section_that_cannot_be_is_a_comment_and_the_rest_is_valid() -> None:
    text, notes = imported(VMROUTER.replace("192.0.2.0/24", "192.0.2.1/24"), tables={"snf_public": 222})
    config = parse.parse(text)
    assert config.public == () and len(config.private) == 1
    assert any("192.0.2.1/24" in note.what for note in notes if note.fate is Fate.LOST)


def test_a_link_local_gateway_is_taken() -> None:
    for text in (VMROUTER.replace("2001:db8::1", "fe80::1"), LINES.replace("2001:db8::1", "fe80::1")):
        found, notes = imported(text, tables={"snf_public": 222})
        assert [str(gateway) for gateway in parse.parse(found).public[0].gateways] == ["192.0.2.1", "fe80::1"]
        assert not [note for note in notes if note.grave]


def test_a_gateway_that_cannot_be_is_left_out_with_a_note_and_the_rest_is_taken() -> None:
    text, notes = imported(VMROUTER.replace("2001:db8::1", "$ROUTER"), tables={"snf_public": 222})
    (public,) = parse.parse(text).public
    assert [str(gateway) for gateway in public.gateways] == ["192.0.2.1"]
    assert len(public.subnets) == 2
    assert any("$ROUTER" in note.what and note.fate is Fate.LOST for note in notes)


def test_variables_are_read_and_never_run() -> None:
    text = (
        "# comment\n"
        "STATE_DIR=/var/lib/snf-network\n"
        "export NFDHCPD_STATE_DIR=\"/srv/nf\"'dhcpd' # and a comment\n"
        "KERBEROS_TICKET=$STATE_DIR/x${STATE_DIR}.tkt\n"
        "NFDHCPD_TAG=\n"
        "LOGFILE=$(touch /tmp/never)\n"
        'IFUP_EXTRA_SCRIPT="`id`"\n'
        "if true; then SERVER=1; fi\n"
        "A=1; B=2\n"
        "C=$UNKNOWN\n"
    )
    found, notes = shell.assignments(text, "f")
    assert {name: one.value for name, one in found.items()} == {
        "STATE_DIR": "/var/lib/snf-network",
        "NFDHCPD_STATE_DIR": "/srv/nfdhcpd",
        "KERBEROS_TICKET": "/var/lib/snf-network/x/var/lib/snf-network.tkt",
        "NFDHCPD_TAG": "",
    }
    assert [note.place for note in notes] == ["f:6", "f:7", "f:8", "f:9", "f:10"]
    assert all(note.fate is Fate.UNREAD for note in notes)


def test_the_binding_directory_and_its_reader_come_along() -> None:
    found, _ = shell.assignments("NFDHCPD_STATE_DIR=/srv/bindings\n", "f")
    text, _ = convert(Legacy(assignments=found, nfdhcpd=True), wrong)
    bindings = parse.parse(text).bindings
    assert (bindings.directory, bindings.consumer.value) == ("/srv/bindings", "nfdhcpd")
    text, _ = convert(Legacy(assignments=found), wrong)
    assert parse.parse(text).bindings.consumer.value == "responder"


@pytest.mark.parametrize(
    ("assignment", "fate"),
    [
        ("NFDHCPD_TAG=nfdhcpd", Fate.TAKEN),
        ("NFDHCPD_TAG=dhcp", Fate.LOST),
        ("IFUP_EXTRA_SCRIPT=/etc/ganeti/ifup-extra", Fate.LOST),
        ("IFUP_EXTRA_SCRIPT=", Fate.NEEDLESS),
        ("MAC_MASK=ff:ff:f0:00:00:00", Fate.LOST),
        ("MAC_MASK=ff:ff:ff:00:00:00", Fate.TAKEN),
        ("EBTABLES=/sbin/ebtables", Fate.NEEDLESS),
        ("TTL=300", Fate.NEEDLESS),
        ("SERVICENAME=site", Fate.LOST),
        ("SOMETHING=1", Fate.UNREAD),
    ],
)
def test_every_variable_is_told_of(assignment: str, fate: Fate) -> None:
    found, _ = shell.assignments(assignment, "f")
    _, notes = convert(Legacy(assignments=found), wrong)
    assert [(note.place, note.fate) for note in notes] == [("f:1", fate)]


def test_dynamic_dns_that_was_in_use_is_missed() -> None:
    found, _ = shell.assignments("SERVER=192.0.2.53\nTTL=300\n", "f")
    _, notes = convert(Legacy(assignments=found), wrong)
    assert {note.fate for note in notes} == {Fate.LOST}


def test_continued_lines_and_sources_are_understood() -> None:
    stanzas, sources = interfaces.parse(
        "source interfaces.d/*\niface eth1 inet manual\n  ip-routes 192.0.2.0/24 \\\n  198.51.100.0/24\n"
        "source-directory more\nmapping eth0\n  script x\nallow-hotplug eth3\n",
        "f",
    )
    assert [source.pattern for source in sources] == ["interfaces.d/*", "more/*"]
    (stanza,) = stanzas
    assert stanza.values("ip-routes")[0].split() == ["192.0.2.0/24", "198.51.100.0/24"]
    assert [option.key for option in stanza.options] == ["ip-routes"]
