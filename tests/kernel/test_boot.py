# SPDX-License-Identifier: BSD-2-Clause
"""Network boot: what firmware is told by tags and sections, while it runs, and QEMU's own firmware that boots by it."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dpkt
import pytest

from tests.lab import PATIENCE, Node, Tap, guest_image
from tests.lab.guest import QEMU

from .actions import BROADCAST, answer, attach, ethernet, ip, manage, octets, refusal
from .conftest import ROOT, MakeTap, Plug, apply
from .environment import BEYOND, BEYOND6, PRIVATE_NETWORK, bridged, mac, private, public, routed
from .guest_frames import Offer, offered
from .responder_lab import RESPONDS, binding, path_of, responding, until
from .test_hooks import hook, instance, quiet

SERVER = ROOT / "tests" / "lab" / "tftp_server.py"
MARK = "booted-from-the-network"
SCRIPT = f"""#!ipxe
kernel kernel console=ttyS0 no_timer_check tsc=reliable mitigations=off random.trust_cpu=on {MARK}
initrd initrd
boot
"""
FILES = {"bios": "undionly.kpxe", "efi-x64": "ipxe.efi", "ipxe": "boot.ipxe"}


@pytest.fixture(scope="session")
def image() -> guest_image.Image:
    """The kernel to boot."""
    try:
        return guest_image.ensure(ROOT / "build")
    except guest_image.ImageError as error:
        pytest.skip(f"no guest image: {error}")


def pxe(number: int, architecture: int = 0, *more: tuple[int, bytes]) -> bytes:
    """A DISCOVER as the firmware of a network card sends it (PXE 2.1, 2.2.2)."""
    options = [
        (53, b"\1"),
        (57, struct.pack("!H", 1472)),
        (93, struct.pack("!H", architecture)),
        (94, b"\1\2\1"),
        (60, b"PXEClient:Arch:%05d:UNDI:002001" % architecture),
        (97, bytes(17)),
        (55, bytes([1, 2, 3, 6, 12, 15, 26, 28, 42, 43, 60, 66, 67, 121, 128, 135, 150])),
        *more,
    ]
    message = dpkt.dhcp.DHCP(op=1, xid=number, flags=0x8000, chaddr=octets(mac(number)), opts=options)
    datagram = dpkt.udp.UDP(sport=68, dport=67, data=bytes(message))
    datagram.ulen = len(datagram)
    packet = dpkt.ip.IP(p=17, ttl=20, src=bytes(4), dst=b"\xff" * 4, data=datagram)
    packet.len = len(packet)
    return ethernet(mac(number), BROADCAST, 0x0800, bytes(packet))


def boots_from(offer: Offer) -> tuple[str, str]:
    """Server and file of an offer."""
    siaddr: int = offer.message.siaddr
    return ".".join(map(str, siaddr.to_bytes(4, "big"))), offer.message.file.rstrip(b"\0").decode()


def tags(**given: str) -> str:
    return " ".join(f"vif:dhcp:{key.replace('_', '-')}:{value}" for key, value in given.items())


BOOT = " ".join(f"vif:dhcp:boot-file-{client}:{file}" for client, file in FILES.items())


class TestTold:
    """A request as firmware sends it, on taps with the guard."""

    def test_each_architecture_has_its_file_and_an_instance_its_own(self, ready: Node, tap: MakeTap) -> None:
        apply(ready, RESPONDS)
        one, other = tap(ready), tap(ready)
        network = f"{PRIVATE_NETWORK['NETWORK_TAGS']} {tags(next_server='10.0.0.69')} {BOOT}"
        attach(ready, bridged(one.name, 5, NETWORK_TAGS=network))
        attach(ready, bridged(other.name, 6, NETWORK_TAGS=network, TAGS="vif:0:dhcp:boot-file-bios:own.0"))
        with responding(ready):
            assert boots_from(offered(one, pxe(5), PATIENCE)) == ("10.0.0.69", "undionly.kpxe")
            assert boots_from(offered(one, pxe(5, 7), PATIENCE)) == ("10.0.0.69", "ipxe.efi")
            assert boots_from(offered(one, pxe(5, 0, (77, b"iPXE")), PATIENCE)) == ("10.0.0.69", "boot.ipxe")
            assert boots_from(offered(other, pxe(6), PATIENCE)) == ("10.0.0.69", "own.0")

    def test_a_tag_that_comes_changes_or_goes_is_followed_while_the_guest_runs(self, ready: Node, tap: MakeTap) -> None:
        apply(ready, RESPONDS)
        one = tap(ready)
        attach(ready, bridged(one.name))
        with responding(ready):
            assert boots_from(offered(one, pxe(5), PATIENCE)) == ("0.0.0.0", "")
            for file in ("one.0", "other.0"):
                given = instance() | {"INSTANCE_TAGS": f"vif:0:dhcp:next-server:10.0.0.69 vif:0:dhcp:boot-file:{file}"}
                quiet(hook(ready, "instance-modify", **given))
                until(lambda: boots_from(offered(one, pxe(5), PATIENCE)) == ("10.0.0.69", file), "the tag")  # noqa: B023
            quiet(hook(ready, "instance-modify", **instance()))
            until(lambda: boots_from(offered(one, pxe(5), PATIENCE)) == ("0.0.0.0", ""), "the end of the tag")
            said = hook(ready, "instance-modify", **instance() | {"INSTANCE_TAGS": "vif:0:dhcp:boot-fil:x"})
            assert said.returncode == 1 and "'vif:0:dhcp:boot-fil:x'" in said.stdout + said.stderr

    def test_a_malformed_tag_is_refused_before_anything_changes(self, ready: Node, tap: MakeTap) -> None:
        said = refusal(ready, bridged(tap(ready).name, NETWORK_TAGS="vif:dhcp:next-server:pxe.example.org"))
        assert "the network tag 'vif:dhcp:next-server:pxe.example.org'" in said

    def test_sections_are_in_force_with_setup_and_explain_names_the_place(self, ready: Node, tap: MakeTap) -> None:
        apply(ready, RESPONDS)
        one = tap(ready)
        attach(ready, bridged(one.name, TAGS="vif:0:dhcp:search:tag.example.org"))
        with responding(ready):
            assert offered(one, pxe(5), PATIENCE).message.siaddr == 0
            part = "[private pvn 1]\ndomain = part.example.org\n"
            network = (
                "[network prvnet]\nnext-server = 10.0.0.69\nboot-file = net.0\noption-43 = hex 0a0b\nsearch = x.org\n"
            )
            apply(ready, f"{RESPONDS}\n{part}{network}")
            until(lambda: boots_from(offered(one, pxe(5), PATIENCE)) == ("10.0.0.69", "net.0"), "the section")
            options = dict(offered(one, pxe(5), PATIENCE).message.opts)
            assert (options[43], options[15]) == (b"\x0a\x0b", b"part.example.org")
        (nic,) = answer(ready, "explain", one.name)["nics"]
        assert {told["option"]: (told["value"], told["source"]) for told in nic["told"]}.items() >= {
            "next-server": ("10.0.0.69", "[network prvnet]"),
            "boot-file": ("net.0", "[network prvnet]"),
            "option-43": ("hex 0a0b", "[network prvnet]"),
            "domain": ("part.example.org", "[private pvn 1]"),
            "search": ("tag.example.org", "tag of the instance"),
            "nameservers": ("192.0.2.53 192.0.2.54 2001:db8::53", "[responder]"),
            "lease-time": ("604800", "default"),
        }.items()
        assert "boot-file net.0  ([network prvnet])" in manage(ready, "explain", one.name)

    def test_explain_names_what_keeps_a_guest_from_being_told(self, ready: Node, tap: MakeTap) -> None:
        apply(ready, RESPONDS)
        one = tap(ready)
        attach(ready, bridged(one.name, IP="10.9.9.9"))
        assert "told        nothing: its binding is refused: IP: 10.9.9.9" in manage(ready, "explain", one.name)

    def test_a_binding_that_cannot_be_understood_is_not_served(self, ready: Node, tap: MakeTap) -> None:
        apply(ready, RESPONDS)
        with responding(ready):
            path_of(ready, "tap9").write_text(binding("tap9") + "GANETI_VIF_TELL_MTU=many\n")
            until(lambda: any("GANETI_VIF_TELL_MTU" in one for one in answer(ready, "check")["differences"]), "it")


@contextmanager
def serving(node: Node, address: str, files: dict[str, bytes], *program: str) -> Iterator[Path]:
    """A TFTP server (or PROGRAM) with FILES at ADDRESS of NODE, for a while. Gives the file with what it was asked."""
    directory = node.path("/run/boot-files")
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    asked = node.path("/run/asked")
    command = program or ("-I", str(SERVER), "/run/boot-files", address)
    with asked.open("w") as output:
        server = node.popen([sys.executable, "-u", *command], stdout=output.fileno(), stderr=output.fileno())
    try:
        until(lambda: bool(asked.read_text()) or server.poll() is not None, "the server")
        assert server.poll() is None, asked.read_text()
        yield asked
    finally:
        server.kill()
        server.wait(timeout=PATIENCE)


@contextmanager
def serving_http(node: Node, address: str, files: dict[str, bytes]) -> Iterator[Path]:
    """An HTTP server, in the same way."""
    program = ("-m", "http.server", "80", "--bind", address, "--directory", "/run/boot-files")
    with serving(node, address, files, *program) as asked:
        yield asked


@contextmanager
def firmware(node: Node, tap: Tap, number: int, *arguments: str) -> Iterator[Callable[[], str]]:
    """A machine without a disk behind TAP: QEMU's BIOS and its network card's iPXE. Gives what its console shows."""
    console = node.path(f"/run/console-{number}")
    argv = [QEMU, "-machine", "pc,graphics=off", "-accel", "tcg", "-m", "256", "-nodefaults", "-no-user-config"]
    argv += ["-display", "none", "-serial", f"file:{console}", "-netdev", f"tap,id=n,fd={tap.fd}"]
    argv += ["-device", f"virtio-net-pci,netdev=n,mac={mac(number)}", "-boot", "n", *arguments]
    machine = node.popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[tap.fd])
    tap.hand_over()
    try:
        yield lambda: console.read_text(errors="replace") if console.exists() else ""
    finally:
        machine.kill()
        machine.wait(timeout=PATIENCE)


OVMF, VARIABLES = Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


def uefi(node: Node, *without: str) -> list[str]:
    """QEMU's arguments for UEFI firmware, WITHOUT these ways to boot (they would be tried first, for minutes)."""
    variables = node.path("/run/variables.fd")
    variables.write_bytes(VARIABLES.read_bytes())
    argv = ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF}"]
    argv += ["-drive", f"if=pflash,format=raw,unit=1,file={variables}", "-global", "virtio-net-pci.romfile="]
    for name in without:
        argv += ["-fw_cfg", f"name=opt/org.tianocore/{name},string=n"]
    return argv


class TestBoots:
    """SeaBIOS and the iPXE of QEMU's network card, which load a kernel over TFTP and start it."""

    @pytest.fixture
    def files(self, image: guest_image.Image) -> dict[str, bytes]:
        return {
            "boot.ipxe": SCRIPT.encode("ascii"),
            "kernel": image.kernel.read_bytes(),
            "initrd": image.initrd.read_bytes(),
        }

    def test_from_a_server_beyond_the_gateway(
        self, ready: Node, tap: MakeTap, gateway: Node, files: dict[str, bytes]
    ) -> None:
        apply(ready, f"{RESPONDS}\n[network pubnet]\nnext-server = {BEYOND}\nboot-file-ipxe = boot.ipxe\n")
        one = tap(ready)
        attach(ready, routed(one.name))
        with responding(ready), serving(gateway, BEYOND, files) as asked, firmware(ready, one, 5) as console:
            until(lambda: MARK in console() and "Kernel command line" in console(), "the kernel")
            assert public(5) in console()
            assert asked.read_text().split() == ["ready", "boot.ipxe", "kernel", "initrd"]

    def test_from_another_guest_of_a_private_network(
        self, ready: Node, tap: MakeTap, plug: Plug, files: dict[str, bytes]
    ) -> None:
        apply(ready, RESPONDS)
        server = plug(ready, "tap9", 9)
        attach(ready, bridged("tap9", 9))
        ip(server, f"addr add {private(9)}/24 dev eth0")
        one = tap(ready)
        network = tags(next_server=private(9), boot_file="boot.ipxe")
        attach(ready, bridged(one.name, NETWORK_TAGS=network))
        with responding(ready), serving(server, private(9), files) as asked, firmware(ready, one, 5) as console:
            until(lambda: MARK in console() and "Kernel command line" in console(), "the kernel")
            assert private(5) in console()
            assert asked.read_text().split() == ["ready", "boot.ipxe", "kernel", "initrd"]

    @pytest.mark.long
    @pytest.mark.skipif(not OVMF.exists(), reason="the Debian package ovmf has UEFI firmware")
    @pytest.mark.parametrize(
        ("address", "told", "way", "shown"),
        [
            (BEYOND, f"next-server = {BEYOND}\nboot-file-efi-x64 = start.efi", "IPv4PXE", "NBP filesize is"),
            (
                BEYOND6,
                f"next-server = {BEYOND6}\nboot-file-efi-x64 = start.efi\ndhcpv6 = stateful",
                "IPv6PXE",
                "NBP filesize is",
            ),
            (BEYOND, f"boot-file-http-x64 = http://{BEYOND}/start.efi", "HTTP", "File Size:"),
            (
                BEYOND6,
                f"boot-file-http-x64 = http://[{BEYOND6}]/start.efi\ndhcpv6 = stateful",
                "HTTP",
                "File Size:",
            ),
        ],
        ids=["TFTP, IPv4", "TFTP, IPv6", "HTTP, IPv4", "HTTP, IPv6"],
    )
    def test_uefi_firmware_gets_its_file_from_beyond_the_gateway(
        self, ready: Node, tap: MakeTap, gateway: Node, address: str, told: str, way: str, shown: str
    ) -> None:
        apply(ready, f"{RESPONDS}\n[network pubnet]\n{told}\n")
        one = tap(ready)
        attach(ready, routed(one.name))
        serve = serving_http if way == "HTTP" else serving
        others = [f"{other}Support" for other in ("IPv4PXE", "IPv6PXE") if other != way]
        machine = firmware(ready, one, 5, *uefi(ready, *others))
        with responding(ready), serve(gateway, address, {"start.efi": bytes(50000)}) as asked, machine as console:
            until(lambda: f"{shown} 50000 Bytes" in console(), "the file")
            assert "start.efi" in asked.read_text()
