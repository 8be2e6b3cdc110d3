# SPDX-License-Identifier: BSD-2-Clause
"""Instance: a VM of the cluster, as Ganeti knows it and as its guest sees itself."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from ipaddress import IPv6Network

from tests.lab import PATIENCE

from .cluster import Cluster
from .console import Console
from .member import Member
from .site import GATEWAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A network card of an instance, as Ganeti's configuration has it."""

    uuid: str
    mac: str
    ip: str | None
    mode: str
    link: str

    @property
    def public6(self) -> str:
        """What SLAAC makes of the public subnet and the MAC (RFC 4291, appendix A)."""
        octets = bytearray.fromhex(self.mac.replace(":", ""))
        octets[0] ^= 2
        return str(IPv6Network("2001:db8::/64")[int.from_bytes(octets[:3] + b"\xff\xfe" + octets[3:], "big")])


def _steps(card: Card, device: str, ipv6: bool) -> list[str]:
    """The commands with which a guest gets the addresses of CARD, its DEVICE: it asks for them."""
    settings = f"/proc/sys/net/ipv6/conf/{device}"
    steps = [f"echo 0 > {settings}/accept_dad", f"echo 0 > {settings}/router_solicitation_delay"]
    steps += [f"ip link set {device} up"]
    if card.ip:
        steps += [f"dhcp {device} -q", f"ip -4 addr show dev {device} | grep -q 'inet {card.ip}/24 '"]
        if card.mode == "routed":
            steps.append(f"ip route show default | grep -q 'via {GATEWAY} dev {device} '")
    if card.mode == "routed" and ipv6:
        steps += [
            _sooner_or_later(f"ip -6 addr show dev {device} | grep -q 'inet6 {card.public6}/64 '"),
            f"ip -6 route show default | grep -q 'via fe80:.* dev {device} '",
        ]
    return steps


def _sooner_or_later(command: str) -> str:
    """COMMAND, again until it works; a guest has nothing that tells when to look. Fails after 30 seconds."""
    return f"for i in $(seq 300); do ! {command} || break; sleep 0.1; done; {command}"


class Instance:
    """An instance by its name."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self._known: dict[str, str] = {}
        self._known_at = -1

    def __repr__(self) -> str:
        return f"Instance({self.name!r})"

    def _ask(self, fields: str) -> str:
        """What `gnt-instance list` shows; asked again after each command that may have changed it."""
        if self._known_at != self.cluster.changes:
            self._known, self._known_at = {}, self.cluster.changes
        if fields not in self._known:
            done = self.cluster.gnt("instance", "list", "--no-headers", "--separator=|", "-o", fields, self.name)
            self._known[fields] = done.stdout.strip()
        return self._known[fields]

    @property
    def home(self) -> Member:
        """The node that it is on."""
        return self.cluster.member(self._ask("pnode"))

    @property
    def state(self) -> str:
        """Ganeti's word: running, ADMIN_down, USER_down, ERROR_down, …"""
        self._known.pop("status", None)  # a guest may end by itself
        return self._ask("status")

    @property
    def cards(self) -> list[Card]:
        """Its network cards in Ganeti's order."""
        # Some lists come as Python prints them: ['a', 'b'].
        columns = self._ask("nic.uuids,nic.macs,nic.ips,nic.modes,nic.links").split("|")
        rows = [[word.strip("[]' ") for word in column.split(",")] for column in columns]
        return [
            Card(uuid=uuid, mac=mac, ip=None if ip in ("-", "None", "") else ip, mode=mode, link=link)
            for uuid, mac, ip, mode, link in zip(*rows, strict=True)
            if uuid not in ("", "-")
        ]

    @property
    def pid(self) -> int:
        """QEMU's process id in its node."""
        done = self.home.do("pgrep", "-f", f"^/usr/bin/qemu-system-x86_64 .*-name {re.escape(self.name)}( |,)")
        return int(done)

    def console(self) -> Console:
        """The guest's console, on the node that it is on now."""
        return Console(self.home, self.name)

    def says(self, command: str, *, check: bool = True) -> str:
        """What the guest prints when it runs COMMAND."""
        with self.console() as console:
            return console.run(command, check=check).output

    def configure(self, *, ipv6: bool = True) -> None:
        """Every card of the guest asks for its lease and router, and gets Ganeti's address and SLAAC's, if IPV6."""
        with self.console() as console:
            # A line for each card, as /sys/class/net/eth0/address:aa:00:00:...
            found = console.run("grep -H . /sys/class/net/eth*/address").output.splitlines()
            devices = {mac: path.split("/")[4] for path, _, mac in (line.partition(":") for line in found)}
            steps = [step for card in self.cards for step in _steps(card, devices[card.mac], ipv6)]
            console.run("set -e\n" + "\n".join(steps), timeout=PATIENCE + 30 * len(steps))

    def reaches(self, *addresses: str) -> None:
        """The guest gets an answer to a ping from each of ADDRESSES."""
        tries = "for i in 1 2 3 4 5; do ping $family -c 1 -W 3 $address && continue 2; done; exit 1"
        words = " ".join(addresses)
        script = f"for address in {words}; do case $address in *:*) family=-6;; *) family=-4;; esac; {tries}; done"
        with self.console() as console:
            console.run(script, timeout=PATIENCE + 30 * len(addresses))

    def rows(self, member: Member) -> list[tuple[str, str, str]]:
        """What `ganeti-vif status` says of it on MEMBER: mode, link and state of each NIC."""
        nics = member.status()["nics"]
        return sorted((nic["mode"], nic["link"], nic["state"]) for nic in nics if nic["instance"] == self.name)

    def attached(self) -> None:
        """Exactly its running cards are attached, on the node that it is on and on no other."""
        home = self.home
        wanted = sorted((card.mode, card.link, "ok") for card in self.cards)
        for member in self.cluster.members:
            found = self.rows(member)
            assert found == (wanted if member is home else []), f"{member}: {json.dumps(found)}\n{member.log()}"

    def gone(self) -> None:
        """No node has anything of it."""
        for member in self.cluster.members:
            assert self.rows(member) == [], f"{member}\n{member.log()}"
