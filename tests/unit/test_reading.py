# SPDX-License-Identifier: BSD-2-Clause
"""Bindings as the responder reads them: what other writers produce is taken, the rest is refused with its line."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import BRIDGED, ROUTED, context, nic_of

from ganeti_vif.config.model import Bindings, Config, For
from ganeti_vif.desired.needs import needs
from ganeti_vif.engine.objects import Binding
from nfdhcpd_bridge.reading import Invalid, Reading, reading

WHOLE = """\
INDEV=tap0
MAC=aa:00:00:00:00:05
HOSTNAME=vm5.example.com
IP=192.0.2.5
SUBNET=192.0.2.0/24
GATEWAY=192.0.2.1
SUBNET6=2001:db8::/64
GATEWAY6=2001:db8::1
MTU=1450
"""
EXPECTED = Reading(
    mac=bytes.fromhex("aa0000000005"),
    router="tap0",
    hostname="vm5.example.com",
    address=IPv4Address("192.0.2.5"),
    subnet=IPv4Network("192.0.2.0/24"),
    gateway=IPv4Address("192.0.2.1"),
    subnet6=IPv6Network("2001:db8::/64"),
    gateway6=IPv6Address("2001:db8::1"),
    mtu=1450,
)


def with_line(line: str) -> str:
    """WHOLE with LINE in the place of the line of the same key, or at its end."""
    key = line.partition("=")[0]
    lines = [old for old in WHOLE.splitlines() if not old.startswith(f"{key}=")]
    return "\n".join([*lines, line]) + "\n"


def test_a_whole_binding() -> None:
    assert reading(WHOLE) == EXPECTED


@pytest.mark.parametrize(
    "text",
    [
        WHOLE.replace("aa:00:00:00:00:05", "AA:00:00:00:00:05"),
        WHOLE.replace("aa:00:00:00:00:05", "AA-00-00-00-00-05"),
        WHOLE.replace("192.0.2.0/24", "192.0.2.7/24"),
        WHOLE.replace("192.0.2.0/24", "192.0.2.0/255.255.255.0"),
        WHOLE.replace("2001:db8::/64", "2001:db8::7/64"),
        WHOLE.replace("\n", "\r\n"),
        WHOLE.rstrip("\n"),
        WHOLE + '\n\n# a comment\nTAGS="a b"\nEUI64=junk\nUNKNOWN\n',
        "MTU=9000\nIP=10.0.0.1\n" + WHOLE,
        WHOLE.replace("=", " = "),
        "".join(f'{key}="{value}"\n' for key, value in (line.split("=") for line in WHOLE.splitlines())),
        "".join(f"{key}='{value}'\n" for key, value in (line.split("=") for line in WHOLE.splitlines())),
        WHOLE.replace("example.com", "example.com."),
        WHOLE + "IP6=\nPRIVATE=\nMACSPOOF=yes\n",
    ],
)
def test_what_other_writers_produce_is_the_same(text: str) -> None:
    assert reading(text) == EXPECTED


@pytest.mark.parametrize("value", ["", "None", '""', " "])
@pytest.mark.parametrize("key", ["INDEV", "HOSTNAME", "GATEWAY", "SUBNET6", "GATEWAY6", "MTU"])
def test_an_empty_value_is_none(key: str, value: str) -> None:
    field = {"INDEV": "router"}.get(key, key.lower())
    assert getattr(reading(with_line(f"{key}={value}")), field) is None


def test_a_file_of_gnt_networking() -> None:
    """Its setup_nfdhcpd writes these keys, in this order, whatever there is to say."""
    text = (
        'INDEV=prv0\nIP=10.1.2.3\nMAC=AA:00:00:12:34:56\nHOSTNAME=web.example.com\nTAGS="prod db"\nGATEWAY=\n'
        "SUBNET=10.1.2.0/24\nGATEWAY6=\nSUBNET6=\nEUI64=\n"
    )
    found = reading(text)
    assert (found.router, found.address, found.gateway, found.subnet6) == ("prv0", IPv4Address("10.1.2.3"), None, None)


@pytest.mark.parametrize("given_", [BRIDGED, ROUTED])
def test_what_we_write_is_what_we_read(given_: dict[str, str]) -> None:
    nic = nic_of(given_)
    config = Config(bindings=Bindings(wanted_for=For.ALL))
    (text,) = (thing.text for thing in needs(nic, config, context(nic)).own.values() if isinstance(thing, Binding))
    found = reading(text)
    assert (found.mac.hex(":"), found.address, found.hostname) == (nic.mac, nic.address, nic.instance)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("MAC=aa:00:00:00:00", "no MAC address"),
        ("MAC=ab:00:00:00:00:05", "single card"),
        ("MAC=00:00:00:00:00:00", "single card"),
        ("IP=192.0.2.5/24", "IP"),
        ("IP=192.0.2.010", "IP"),
        ("IP=vm5.example.com", "IP"),
        ("IP=198.51.100.5", "not in SUBNET"),
        ("IP=192.0.2.0", "no host's address"),
        ("IP=192.0.2.255", "no host's address"),
        ("IP=192.0.2.1", "own IP"),
        ("IP=127.0.0.1", "host can have"),
        ("SUBNET=192.0.2.0", "prefix length"),
        ("SUBNET=192.0.2.0/33", "SUBNET"),
        ("GATEWAY=2001:db8::1", "GATEWAY"),
        ("GATEWAY=255.255.255.255", "host can have"),
        ("SUBNET6=2001:db8::", "prefix"),
        ("SUBNET6=192.0.2.0/24", "SUBNET6"),
        ("GATEWAY6=fe80::1%eth0", "router can have"),
        ("GATEWAY6=ff02::1", "router can have"),
        ("IP6=2001:db8:1::5", "not in SUBNET6"),
        ("IP6=fe80::5", "link-local"),
        ("IP6=2001:db8::1", "own IP6"),
        ("MTU=abc", "MTU"),
        ("MTU=67", "MTU"),
        ("MTU=70000", "MTU"),
        ("MTU=-1", "MTU"),
        ("HOSTNAME=a b", "host name"),
        ("HOSTNAME=vm5=x", "host name"),
        (f"HOSTNAME={'a' * 300}", "host name"),
        (f"HOSTNAME={'a' * 64}.example.com", "host name"),
        ("HOSTNAME=\xff", "host name"),
        ("INDEV=a/b", "network device"),
        ("INDEV=0123456789abcdef", "network device"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_line(line: str, reason: str) -> None:
    text = with_line(line)
    with pytest.raises(Invalid) as caught:
        reading(text)
    assert reason in caught.value.reason
    refused = text.splitlines()[caught.value.line - 1]
    assert refused.partition("=")[0] in caught.value.reason


@pytest.mark.parametrize("text", ["", "\n", "IP=192.0.2.5\nSUBNET=192.0.2.0/24\n", "\ufeff" + WHOLE[11:]])
def test_a_file_without_a_mac_is_refused_whole(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        reading(text)
    assert (caught.value.line, caught.value.reason) == (0, "it has no MAC")


def test_an_address_without_a_subnet_is_refused() -> None:
    with pytest.raises(Invalid, match="SUBNET"):
        reading("MAC=aa:00:00:00:00:05\nIP=192.0.2.5\n")


@given(st.text() | st.text(alphabet="MACIPSUBNET64=:/.0123456789abf\n\"' "))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = reading(text)
    except Invalid as caught:
        found, invalid = None, caught
    if found:
        assert len(found.mac) == 6
    else:
        assert 0 <= invalid.line <= len(text.splitlines()) + 1
        assert invalid.reason.strip()
