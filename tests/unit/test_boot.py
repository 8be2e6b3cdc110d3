# SPDX-License-Identifier: BSD-2-Clause
"""Network boot, and options for single guests: what firmware and other clients are told, read with dpkt or by hand."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace

import dpkt
import pytest
from guest_frames import TOLD, dhcp, dhcp6, packed, serving
from test_dhcp4 import DISCOVER, INFORM, NAK, REQUEST, answered
from test_dhcp6 import ADVERTISE, CLIENT, IA, INFORMATION_REQUEST, SOLICIT
from test_dhcp6 import told as told6

from ganeti_vif.config.model import Dhcpv6
from ganeti_vif.config.told import from_tag, overlaid
from ganeti_vif.responder.answer import answer
from ganeti_vif.responder.service import Service

ASKED = (55, bytes([1, 3, 6, 26, 42, 43, 66, 67, 121, 150]))
FILES = {
    "next-server": "192.0.2.69+2001:db8::69",
    "boot-file": "any.0",
    "boot-file-ipxe": "http://boot.example.org/script",
    "boot-file-bios": "bios.0",
    "boot-file-efi-x64": "x64.efi",
    "boot-file-http-x64": "http://boot.example.org/x64.efi",
}


def saying(given: Mapping[str, str], **changes: str | None) -> Service:
    """The service of a guest that is told what is GIVEN, in the words of tags."""
    told = overlaid(TOLD, {key: from_tag(key, text) for key, text in given.items()}, "test")
    return serving(told=replace(told, dhcpv6=Dhcpv6.STATEFUL), **changes)  # type: ignore[arg-type]


def pxe(number: int) -> list[tuple[int, bytes]]:
    vendor = f"{'HTTP' if number == 16 else 'PXE'}Client:Arch:{number:05}:UNDI:003016".encode()
    return [ASKED, (60, vendor), (93, struct.pack("!H", number)), (94, b"\1\3\x10"), (97, bytes(17))]


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ([ASKED], "any.0"),
        (pxe(0), "bios.0"),
        (pxe(7), "x64.efi"),
        (pxe(9), "x64.efi"),
        (pxe(6), "any.0"),
        (pxe(16), "http://boot.example.org/x64.efi"),
        ([*pxe(0), (77, b"iPXE")], "http://boot.example.org/script"),
        ([*pxe(7), (77, b"\4iPXE")], "http://boot.example.org/script"),
    ],
    ids=["any", "bios", "x64", "x64 too", "ia32", "http", "ipxe", "ipxe on efi"],
)
@pytest.mark.parametrize("kind", [DISCOVER, REQUEST])
def test_firmware_gets_the_file_for_its_architecture(kind: int, options: list[tuple[int, bytes]], file: str) -> None:
    wanted = [(50, packed("192.0.2.5"))] if kind == REQUEST else []
    found = answered(dhcp(kind, [*options, *wanted]), saying(FILES))
    assert found.message.siaddr == int.from_bytes(packed("192.0.2.69"), "big")
    assert found.message.file.rstrip(b"\0").decode() == found.options[67].decode() == file
    assert (found.options[66], found.options[150]) == (b"192.0.2.69", packed("192.0.2.69"))
    assert found.options.get(60) == (b"HTTPClient" if file.endswith("/x64.efi") else None)


def test_firmware_that_speaks_http_is_told_no_path_on_a_tftp_server() -> None:
    found = answered(dhcp(DISCOVER, pxe(16)), saying({**FILES, "boot-file-http-x64": ""}))
    assert 67 not in found.options and 60 not in found.options and not found.message.file.strip(b"\0")
    found = answered(dhcp(DISCOVER, pxe(16)), saying({"boot-file": "http://192.0.2.69/x.efi"}))
    assert found.options[67] == b"http://192.0.2.69/x.efi"


def test_a_url_with_an_address_of_the_other_version_is_not_told() -> None:
    service = saying({"boot-file": "http://*5b2001:db8::69*5d/x.efi"})
    assert 67 not in answered(dhcp(DISCOVER, pxe(0)), service).options
    found = told6(dhcp6(SOLICIT, CLIENT, IA, (6, struct.pack("!H", 59))), service)
    assert found and found[1][59] == b"http://[2001:db8::69]/x.efi"
    found = told6(dhcp6(SOLICIT, CLIENT, IA), saying({"boot-file": "tftp://192.0.2.69/x"}))
    assert found and 59 not in found[1]


def test_a_long_file_is_in_its_option_only_and_a_refusal_says_nothing_of_boot() -> None:
    long = f"http://boot.example.org/{'a' * 120}"
    found = answered(dhcp(DISCOVER, pxe(0)), saying({"boot-file": long}))
    assert found.options[67].decode() == long and not found.message.file.strip(b"\0")
    refused = answered(dhcp(REQUEST, [*pxe(0), (50, packed("192.0.2.9"))]), saying(FILES))
    assert (refused.type, refused.message.siaddr, set(refused.options)) == (NAK, 0, {53, 54})


def test_without_a_boot_file_an_answer_is_what_it_was() -> None:
    found = answered(dhcp(DISCOVER, pxe(0)), saying({}))
    assert found.message.siaddr == 0 and not {60, 66, 67, 150} & set(found.options)


def test_firmware_that_ends_the_file_with_a_zero_leaves_the_other_options_as_they_are() -> None:
    """EDK2 does that in the packet that it hands on (NetworkPkg/UefiPxeBcDxe/PxeBcDhcp4.c, PxeBcParseDhcp4Packet)."""
    frame = answer(dhcp(DISCOVER, pxe(7)), saying(FILES)).frame
    assert frame
    payload = frame[42:]
    at = payload.index(b"\x43\x07x64.efi") + 9
    changed = dpkt.dhcp.DHCP(payload[:at] + b"\0" + payload[at + 1 :])
    assert {code: value for code, value in changed.opts if code} == answered(
        dhcp(DISCOVER, pxe(7)), saying(FILES)
    ).options


# DHCPv6.


def asking6(*more: tuple[int, bytes]) -> dict[int, bytes]:
    found = told6(dhcp6(SOLICIT, CLIENT, IA, (6, struct.pack("!HH", 59, 60)), *more), saying(FILES))
    assert found and found[0] == ADVERTISE
    return found[1]


def test_firmware_gets_a_url_by_dhcpv6() -> None:
    assert asking6()[59] == b"tftp://[2001:db8::69]/any.0"
    assert asking6((61, struct.pack("!H", 7)))[59] == b"tftp://[2001:db8::69]/x64.efi"
    assert asking6((15, b"\0\4iPXE"))[59] == b"http://boot.example.org/script"


def test_uefi_http_boot_by_dhcpv6_gets_the_class_without_which_it_drops_the_answer() -> None:
    found = asking6((61, struct.pack("!H", 16)), (16, struct.pack("!IH", 343, 10) + b"HTTPClient"))
    assert found[59] == b"http://boot.example.org/x64.efi"
    assert found[16] == struct.pack("!IH", 343, 10) + b"HTTPClient"


def test_parameters_and_no_url_to_those_who_did_not_ask() -> None:
    service = saying({**FILES, "boot-parameters": "one+two"})
    found = told6(dhcp6(SOLICIT, CLIENT, IA, (6, struct.pack("!HH", 59, 60))), service)
    assert found and found[1][60] == b"\0\3one\0\3two"
    found = told6(dhcp6(SOLICIT, CLIENT, IA, (6, struct.pack("!H", 23))), service)
    assert found and not {16, 59, 60} & found[1].keys()


# Other options.


def test_routes_come_with_the_default_route_that_the_guest_would_lose() -> None:
    ours = saying({"routes": "10.0.0.0/8+via+192.0.2.9+172.16.0.0/12+via+0.0.0.0"})
    assert answered(dhcp(DISCOVER, [ASKED]), ours).options[121] == (
        b"\x08\x0a" + packed("192.0.2.9") + b"\x0c\xac\x10" + bytes(4) + b"\0" + packed("192.0.2.1")
    )
    own = saying({"routes": "0.0.0.0/0+via+192.0.2.9"})
    assert answered(dhcp(DISCOVER, [ASKED]), own).options[121] == b"\0" + packed("192.0.2.9")
    beside = saying({"routes": "10.0.0.0/8+via+192.0.2.9"}, GATEWAY=None)
    assert answered(dhcp(DISCOVER, [ASKED]), beside).options[121] == (
        b"\x08\x0a" + packed("192.0.2.9") + b"\x20" + packed("169.254.86.73") + bytes(4)
    )


def test_servers_behind_a_route_are_told_where_there_is_no_router() -> None:
    given = {"ntp": "198.51.100.9+203.0.113.9", "routes": "198.51.100.0/24+via+192.0.2.9"}
    assert answered(dhcp(DISCOVER, [ASKED]), saying(given, GATEWAY=None)).options[42] == packed("198.51.100.9")


def test_time_servers_in_all_their_forms() -> None:
    ours = saying({"ntp": "192.0.2.123+2001:db8::123"})
    assert answered(dhcp(INFORM, [ASKED], client="192.0.2.5", source="192.0.2.5"), ours).options[42] == packed(
        "192.0.2.123"
    )
    found = told6(dhcp6(INFORMATION_REQUEST, CLIENT, (6, struct.pack("!HH", 31, 56))), ours)
    assert found and found[1][31] == packed("2001:db8::123")
    assert found[1][56] == struct.pack("!HH", 1, 16) + packed("2001:db8::123")


@pytest.mark.parametrize(("mtu", "link", "told"), [("1400", None, 1400), ("9000", None, 1500), ("1500", "1450", 1450)])
def test_no_guest_is_told_a_larger_mtu_than_its_link_has(mtu: str, link: str | None, told: int) -> None:
    found = answered(dhcp(DISCOVER, [ASKED]), saying({"mtu": mtu}, MTU=link))
    assert int.from_bytes(found.options[26], "big") == told


def test_an_option_by_number_is_told_to_those_who_ask() -> None:
    ours = saying({"option-43": "hex+0a0b", "option-252": "text+http://wpad/", "option6-22": "hex+00"})
    found = answered(dhcp(DISCOVER, [ASKED]), ours)
    assert found.options[43] == b"\x0a\x0b" and 252 not in found.options
    information = told6(dhcp6(INFORMATION_REQUEST, CLIENT, (6, struct.pack("!H", 22))), ours)
    assert information and information[1][22] == b"\0"


def test_a_hostname_by_number_replaces_the_instances() -> None:
    assert answered(dhcp(DISCOVER, [(55, b"\x0c")]), saying({"option-12": "text+other"})).options[12] == b"other"
