# SPDX-License-Identifier: BSD-2-Clause
"""Network boot: which file a guest's firmware is told, by its architecture, and in which form (DHCP and DHCPv6).

Firmware says what it is by its architecture (RFC 4578, RFC 5970), iPXE by its user class, UEFI HTTP boot by its vendor
class (UEFI specification 2.10, 24.7). A guest that says nothing of that is told the boot file for any client.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from ganeti_vif.config.model import Told
from ganeti_vif.config.told import BOOT_CLIENTS
from ganeti_vif.responder.options import option4, option6

ANY, IPXE = "", "ipxe"
_HTTP = frozenset().union(*(numbers for client, numbers in BOOT_CLIENTS.items() if client.startswith("http")))
_HTTP_CLASS, _IPXE_CLASS = b"HTTPClient", b"iPXE"
_HOST = re.compile(r"[A-Za-z0-9+.-]+://(?:[^/@]*@)?(\[[^]/]*\]|[^/:]*)")
"""The beginning of a URL, with its host."""
_INTEL = struct.pack("!I", 343)
"""The enterprise of the vendor class in DHCPv6 (UEFI specification 2.10, 24.7.3)."""
FILE_FIELD = 128
"""Bytes of the field `file`, with its closing zero (RFC 2131, 2)."""


class _Four(IntEnum):
    """Options of DHCP (RFC 2132, RFC 3004, RFC 4578, RFC 5859)."""

    VENDOR_CLASS, SERVER_NAME, FILE, USER_CLASS, ARCHITECTURE, SERVERS = 60, 66, 67, 77, 93, 150


class _Six(IntEnum):
    """Options of DHCPv6 (RFC 8415, RFC 5970)."""

    USER_CLASS, VENDOR_CLASS, URL, PARAMETERS, ARCHITECTURE = 15, 16, 59, 60, 61


class Told4(NamedTuple):
    """What an answer says of network boot: its fields SERVER (siaddr) and FILE, OPTIONS that the guest has to ask for,
    and those that it gets in any case (FORCED)."""

    server: bytes
    file: bytes
    options: Mapping[int, bytes]
    forced: bytes


NOTHING = Told4(bytes(4), b"", {}, b"")


@dataclass(frozen=True, slots=True)
class Boot:
    """The boot FILES of one guest by client, "" for any; the SERVER that has them, and its PARAMETERS (DHCPv6)."""

    files: Mapping[str, str]
    server: IPv4Address | IPv6Address | None
    parameters: tuple[str, ...] = ()

    def told4(self, request: Mapping[int, bytes]) -> Told4:
        """What the answer to a DHCP request with these options says."""
        http = request.get(_Four.VENDOR_CLASS, b"").startswith(_HTTP_CLASS)
        file = self._file(request.get(_Four.USER_CLASS, b""), request.get(_Four.ARCHITECTURE, b""), http=http)
        options: dict[int, bytes] = {}
        if file:
            # EDK2 writes a zero behind the value, into the packet that it hands on. So a pad stands there:
            # else GRUB would not understand the options that follow.
            options[_Four.FILE] = option4(_Four.FILE, file) + b"\0"
        if self.server:
            options[_Four.SERVER_NAME] = option4(_Four.SERVER_NAME, str(self.server).encode("ascii"))
            options[_Four.SERVERS] = option4(_Four.SERVERS, self.server.packed)
        return Told4(
            server=self.server.packed if self.server else bytes(4),
            file=file if len(file) < FILE_FIELD else b"",
            options=options,
            # Firmware drops an offer without it.
            forced=option4(_Four.VENDOR_CLASS, _HTTP_CLASS) if http and file else b"",
        )

    def told6(self, request: Mapping[int, bytes], asked: set[int]) -> Iterator[bytes]:
        """The options for the answer to a DHCPv6 request with these options, which ASKED for these numbers."""
        http = _HTTP_CLASS in request.get(_Six.VENDOR_CLASS, b"")
        file = self._file(request.get(_Six.USER_CLASS, b""), request.get(_Six.ARCHITECTURE, b""), http=http)
        if file and not is_url(file):
            file = f"tftp://[{self.server}]/".encode("ascii") + file.lstrip(b"/") if self.server else b""
        if not file:
            return
        if http:
            yield option6(_Six.VENDOR_CLASS, _INTEL + struct.pack("!H", len(_HTTP_CLASS)) + _HTTP_CLASS)
        if not asked or _Six.URL in asked:
            yield option6(_Six.URL, file)
        if self.parameters and (not asked or _Six.PARAMETERS in asked):
            parameters = (one.encode("ascii") for one in self.parameters)
            yield option6(_Six.PARAMETERS, b"".join(struct.pack("!H", len(one)) + one for one in parameters))

    def _file(self, user_class: bytes, architectures: bytes, *, http: bool) -> bytes:
        """The file for a client with these classes. Firmware with HTTP can use nothing but a URL of HTTP."""
        count = len(architectures) // 2
        numbers = set(struct.unpack(f"!{count}H", architectures[: count * 2]))
        http = http or bool(numbers & _HTTP)
        for client in _clients(numbers, ipxe=_IPXE_CLASS in user_class):
            file = self.files.get(client, "").encode("ascii")
            if file and (not http or file.lower().startswith((b"http://", b"https://"))):
                return file
        return b""


def _clients(numbers: set[int], *, ipxe: bool) -> Iterator[str]:
    """The names under which a client may have a file, the best first."""
    if ipxe:
        yield IPXE
    yield from (client for client, known in BOOT_CLIENTS.items() if known & numbers)
    yield ANY


def boot(told: Told, version: int) -> Boot | None:
    """What guests are told of network boot by the protocol of this IP VERSION. None if there is nothing.

    A URL with an address of the other version is left out: who has this version only cannot reach it.
    """
    server = next((one for one in told.next_server if one.version == version), None)
    files = {client: file for client, file in told.boot_files if file and _version_of(file) in (None, version)}
    return Boot(files, server, told.boot_parameters) if files or server else None


def is_url(file: bytes) -> bool:
    """Whether FILE is a URL, and no path on a TFTP server."""
    return b"://" in file


def _version_of(file: str) -> int | None:
    """The IP version of the address in the URL FILE. None if it is no URL, or has a name."""
    try:
        return ip_address(match[1].strip("[]")).version if (match := _HOST.match(file)) else None
    except ValueError:
        return None
