# SPDX-License-Identifier: BSD-2-Clause
"""Names of instances, at real DNS servers: they come and go with instances, and follow them to another node."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

pytest.importorskip("dns", reason="dnspython is missing: apt install python3-dnspython")
for program in ("knotd", "dnsmasq"):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing: apt install knot dnsmasq-base", allow_module_level=True)

from tests.lab import Node, wire  # noqa: E402

from .actions import answer, attach, differences, ip, run  # noqa: E402
from .conftest import MakeTap, apply  # noqa: E402
from .dns_lab import FORWARD, KEY, KEY_FILE, REVERSE4, REVERSE6, ask, becomes, dnsmasq, knot  # noqa: E402
from .environment import CONFIG, bridged, private, public, public6, routed  # noqa: E402
from .migration_site import connected, moving  # noqa: E402
from .vifd import launched, said, started, stopped, until  # noqa: E402

HOSTS = "/var/lib/ganeti-vif/names/hosts"
TO_A_FILE = f"{CONFIG}\n[names]\nhosts-file = {HOSTS}\n"
SERVER = "10.53.{}.1"
NAME, MARK = "vm5.example.com", "_ganeti-vif.vm5.example.com"


def to_a_server(number: int = 1, more: str = "") -> str:
    return (
        f"{CONFIG}\n[names]\nserver = {SERVER.format(number)}\nzone = {FORWARD}\n"
        f"reverse-zones = {REVERSE4} {REVERSE6}\nkey-file = {KEY_FILE}\n{more}"
    )


def hosts(node: Node) -> set[str]:
    """The lines of the hosts file."""
    path = node.path(HOSTS)
    lines = path.read_text().splitlines() if path.exists() else []
    return {line for line in lines if not line.startswith("#")}


def reverse(address: str) -> str:
    return ip_address(address).reverse_pointer


@pytest.fixture
def vifd(ready: Node) -> Iterator[subprocess.Popen[str]]:
    daemon = started(ready)
    yield daemon
    stopped(daemon)
    assert "bug:" not in said(ready)


class TestFile:
    """A hosts file, and dnsmasq that reads it."""

    @pytest.mark.usefixtures("vifd")
    def test_dnsmasq_knows_an_instance_while_it_runs(self, ready: Node, tap: MakeTap) -> None:
        apply(ready, TO_A_FILE)
        until(lambda: ready.path(HOSTS).exists(), "the file")
        with dnsmasq(ready, f"--hostsdir={HOSTS.rpartition('/')[0]}"):
            one, other = tap(ready), tap(ready)
            attach(ready, routed(one.name))
            attach(ready, bridged(other.name, 6))
            becomes(lambda: ask(ready, "127.0.0.1", NAME, "A"), {public(5)}, "the address")
            becomes(lambda: ask(ready, "127.0.0.1", NAME, "AAAA"), {public6(5)}, "the IPv6 address")
            becomes(lambda: ask(ready, "127.0.0.1", reverse(public(5)), "PTR"), {f"{NAME}."}, "the name")
            assert hosts(ready) == {f"{public(5)} {NAME}", f"{public6(5)} {NAME}"}, "a private network has no names"
            assert "names: 2 in /var/lib" in run(ready, "status").stdout
            one.close()
            until(lambda: not hosts(ready), "the end of the name")
            becomes(lambda: ask(ready, "127.0.0.1", NAME, "A"), set(), "that dnsmasq forgets it")

    @pytest.mark.usefixtures("vifd")
    def test_a_file_of_somebody_else_is_left_alone_and_told_of(self, ready: Node, tap: MakeTap) -> None:
        ready.path(HOSTS).parent.mkdir(parents=True)
        ready.path(HOSTS).write_text("192.0.2.1 gateway\n")
        apply(ready, TO_A_FILE)
        attach(ready, routed(tap(ready).name))
        until(lambda: differences(ready) != [], "the complaint")
        assert differences(ready) == [f"{HOSTS} is not ganeti-vif's, and is not overwritten"]
        assert ready.path(HOSTS).read_text() == "192.0.2.1 gateway\n"
        ready.path(HOSTS).unlink()
        until(lambda: hosts(ready) != set(), "the file")
        until(lambda: differences(ready) == [], "the end of the complaint")

    def test_links_and_ipv6_can_be_chosen(self, ready: Node, tap: MakeTap) -> None:
        apply(ready, f"{TO_A_FILE}links = pvn1\nipv6 = no\n")
        attach(ready, routed(tap(ready).name))
        attach(ready, bridged(tap(ready).name, 6))
        daemon = launched(ready)
        until(lambda: hosts(ready) == {f"{private(6)} vm6.example.com"}, "the private one alone")
        stopped(daemon)

    def test_who_went_while_no_daemon_ran_is_taken_out(self, ready: Node, tap: MakeTap) -> None:
        apply(ready, TO_A_FILE)
        one = tap(ready)
        attach(ready, routed(one.name))
        daemon = launched(ready)
        until(lambda: hosts(ready) != set(), "the name")
        stopped(daemon, signal.SIGKILL)
        one.close()
        daemon = launched(ready)
        until(lambda: hosts(ready) == set(), "its end")
        stopped(daemon)


@pytest.fixture
def dns(stack: ExitStack, ready: Node) -> Node:
    """A machine for a DNS server, wired to the node, which has the key."""
    server = stack.enter_context(Node("dns"))
    linked(ready, server, 1)
    return server


def linked(node: Node, server: Node, number: int) -> None:
    wire(node, "eth7", server, f"eth{number}")
    ip(server, f"addr add {SERVER.format(number)}/30 dev eth{number}")
    ip(node, f"addr add 10.53.{number}.2/30 dev eth7")
    node.path(KEY_FILE).write_text(KEY)
    node.path(KEY_FILE).chmod(0o600)


def at(dns: Node, name: str, kind: str) -> Callable[[], set[str] | None]:
    return lambda: ask(dns, "127.0.0.1", name, kind)


class TestUpdates:
    """A DNS server that takes updates with a key."""

    @pytest.mark.usefixtures("vifd")
    def test_the_names_of_an_instance_are_there_while_it_runs(self, ready: Node, dns: Node, tap: MakeTap) -> None:
        with knot(dns):
            apply(ready, to_a_server())
            one = tap(ready)
            attach(ready, routed(one.name))
            becomes(at(dns, NAME, "A"), {public(5)}, "the address")
            becomes(at(dns, NAME, "AAAA"), {public6(5)}, "the IPv6 address")
            becomes(at(dns, reverse(public(5)), "PTR"), {f"{NAME}."}, "the name")
            becomes(at(dns, reverse(public6(5)), "PTR"), {f"{NAME}."}, "the name")
            until(lambda: "names: 3 of 3 record sets at 10.53.1.1" in run(ready, "status").stdout, "the status")
            one.close()
            for name, kind in ((NAME, "A"), (NAME, "AAAA"), (MARK, "TXT"), (reverse(public(5)), "PTR")):
                becomes(at(dns, name, kind), set(), f"the end of {name} {kind}")
        assert differences(ready) == []

    @pytest.mark.usefixtures("vifd")
    def test_two_nics_have_one_name_with_both_addresses(self, ready: Node, dns: Node, tap: MakeTap) -> None:
        with knot(dns):
            apply(ready, to_a_server(more="ipv6 = no\n"))
            one, other = tap(ready), tap(ready)
            attach(ready, routed(one.name))
            attach(ready, routed(other.name, 6, INSTANCE=NAME))
            becomes(at(dns, NAME, "A"), {public(5), public(6)}, "both addresses")
            one.close()
            becomes(at(dns, NAME, "A"), {public(6)}, "the one that is left")

    @pytest.mark.usefixtures("vifd")
    def test_what_an_administrator_wrote_stays_and_is_told_of(self, ready: Node, dns: Node, tap: MakeTap) -> None:
        with knot(dns, forward="vm5 60 IN A 198.51.100.7\n"):
            apply(ready, to_a_server())
            one = tap(ready)
            attach(ready, routed(one.name))
            until(lambda: f"{NAME} has records in DNS that are not ganeti-vif's" in differences(ready), "the complaint")
            assert at(dns, NAME, "A")() == {"198.51.100.7"}
            becomes(at(dns, reverse(public(5)), "PTR"), {f"{NAME}."}, "the rest all the same")
            one.close()
            becomes(at(dns, reverse(public(5)), "PTR"), set(), "the end of it")
            assert at(dns, NAME, "A")() == {"198.51.100.7"}

    @pytest.mark.usefixtures("vifd")
    def test_a_server_that_is_down_is_told_of_and_delays_no_attach(self, ready: Node, dns: Node, tap: MakeTap) -> None:
        ip(dns, "link set eth1 down")  # packets get no answer at all
        apply(ready, to_a_server())
        attach(ready, routed(tap(ready).name))
        until(lambda: any("10.53.1.1 does not answer" in line for line in differences(ready)), "the complaint")
        assert "10.53.1.1 does not answer" in run(ready, "status").stdout
        for number in range(6, 9):
            attach(ready, routed(tap(ready).name, number))
            assert answer(ready, "status")["daemon"] is not None
        ip(dns, "link set eth1 up")
        with knot(dns):
            for number in range(5, 9):
                becomes(at(dns, f"vm{number}.example.com", "A"), {public(number)}, "the name")
            until(lambda: differences(ready) == [], "the end of the complaint")

    @pytest.mark.usefixtures("vifd")
    @pytest.mark.parametrize(
        ("key", "told"),
        [
            (KEY.replace("Y5Y1", "Y5Y2"), "do not agree on the key"),
            (KEY.replace("ganeti-vif", "nobody"), "do not agree on the key"),
            ("no key\n", "has no key of the form"),
        ],
    )
    def test_a_wrong_key_is_told_of(self, ready: Node, dns: Node, tap: MakeTap, key: str, told: str) -> None:
        ready.path(KEY_FILE).write_text(key)
        with knot(dns):
            apply(ready, to_a_server())
            attach(ready, routed(tap(ready).name))
            until(lambda: any(told in line for line in differences(ready)), "the complaint")
            assert at(dns, NAME, "A")() == set()
            ready.path(KEY_FILE).write_text(KEY)
            becomes(at(dns, NAME, "A"), {public(5)}, "the name")

    def test_a_node_that_was_switched_off_takes_back_what_it_wrote(self, ready: Node, dns: Node, tap: MakeTap) -> None:
        with knot(dns):
            apply(ready, to_a_server())
            one = tap(ready)
            attach(ready, routed(one.name))
            daemon = launched(ready)
            becomes(at(dns, NAME, "A"), {public(5)}, "the name")
            stopped(daemon, signal.SIGKILL)
            one.close()
            ready.run(["sh", "-c", "rm -r /run/ganeti-vif/nics"])  # a reboot
            assert at(dns, NAME, "A")() == {public(5)}
            daemon = launched(ready)
            becomes(at(dns, NAME, "A"), set(), "the end of the name")
            becomes(at(dns, reverse(public6(5)), "PTR"), set(), "the end of the reverse name")
            stopped(daemon)

    def test_a_name_goes_with_its_instance_to_another_node(self, stack: ExitStack) -> None:
        dns = stack.enter_context(Node("dns"))
        with connected(stack) as site, knot(dns):
            for number, node in enumerate((site.source, site.target), 1):
                linked(node, dns, number)
                apply(node, to_a_server(number))
            before, arrival = moving(site, stack)
            becomes(at(dns, MARK, "TXT"), {f'"ganeti-vif" "node1" "A {public(5)}" "AAAA {public6(5)}"'}, "node1's mark")
            arrival.speak()
            becomes(at(dns, MARK, "TXT"), {f'"ganeti-vif" "node2" "A {public(5)}" "AAAA {public6(5)}"'}, "node2's mark")
            before.close()
            until(lambda: not answer(site.source, "status")["nics"], "the end of it on the source")
            until(lambda: answer(site.source, "status")["daemon"]["names"]["wanted"] == 0, "that the source knows")
            forgotten = site.source.path("/var/lib/ganeti-vif/names.json")
            until(lambda: forgotten.read_text() == "{}\n", "that the source has nothing more to do")
            assert at(dns, NAME, "A")() == {public(5)}
            assert at(dns, reverse(public(5)), "PTR")() == {f"{NAME}."}
            arrival.die()
            becomes(at(dns, NAME, "A"), set(), "the end of the name")
