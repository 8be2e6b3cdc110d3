# SPDX-License-Identifier: BSD-2-Clause
"""The doctor finds each conflict, says what mends it, and finds nothing on a node where all is well."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from samples import PUBLIC, ROOT
from shell import shell_takes

from ganeti_vif.cli import doctor
from ganeti_vif.config.model import Bindings, Config, Conntrack, Consumer, Private, Profile, VlanUplink, VxlanUplink
from ganeti_vif.doctor.checks import findings
from ganeti_vif.doctor.facts import (
    HOOK,
    HOOKS,
    SCRIPTS,
    Calls,
    Daemon,
    Facts,
    Finding,
    Networkd,
    NetworkFile,
    PolicyRule,
    Process,
    XtablesRule,
)
from ganeti_vif.engine.objects import Route
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.nic.tags import Grants
from ganeti_vif.predecessors.interfaces import Option, Stanza

CONFIG = Config(private=(Private(prefix="pvn", numbers=(1, 2)),), public=(PUBLIC,))
VLANS = replace(CONFIG, private=(Private(prefix="pvn", numbers=(1,), uplink=VlanUplink("eth1", 9)),))
NFDHCPD = replace(CONFIG, bindings=Bindings(consumer=Consumer.NFDHCPD))
OURS = NetworkFile(path="/usr/lib/systemd/network/05-ganeti-vif.network", names=("tap*", "pvn*", "vx*"), unmanaged=True)
BROAD = NetworkFile(path="/etc/systemd/network/20-all.network", names=("e*", "tap*"), unmanaged=False, proxy_ndp=True)
LEAVES_ALONE = Networkd(
    settings={"ManageForeignRoutes": "no", "ManageForeignRoutingPolicyRules": "no"}, files=(OURS, BROAD)
)
ALONE = ("interface-name:tap*", "interface-name:pvn*")
VIFD = Daemon(name="ganeti-vifd", loss="nobody repairs", runs=True, enabled=True)
WELL = Facts(
    config=CONFIG,
    devices=frozenset({"eth1", "tap0"}),
    sysctls={"net/ipv4/conf/all/rp_filter": "2", "net/bridge/bridge-nf-call-iptables": "0"},
    modules={"bridge": True, "tun": True, "nf_tables": None, "8021q": False, "vxlan": False},
    networkd=LEAVES_ALONE,
    unmanaged=ALONE,
    tables={"rt_pub": 222, "main": 254},
    calls=Calls(scripts=dict.fromkeys(SCRIPTS, True), hooks=dict.fromkeys(HOOKS, HOOK)),
    daemons=(VIFD,),
)


def nic(tap: str, mode: Mode = Mode.ROUTED, link: str = "rt_pub") -> Nic:
    return Nic(instance="vm5", uuid="u", tap=tap, index=9, mac="aa:00:00:00:00:05", mode=mode, link=link)


def test_a_node_on_which_all_is_well_has_no_findings() -> None:
    assert findings(WELL) == []


def bridge(*options: tuple[str, str]) -> Stanza:
    given = tuple(Option(key=key, value=value, place="/etc/network/interfaces:3") for key, value in options)
    return Stanza(device="br0", family="inet", place="/etc/network/interfaces:2", options=given)


UPLINK = Stanza(
    device="eth1",
    family="inet",
    place="/etc/network/interfaces:4",
    options=(Option(key="up", value="ip rule add iif eth1 lookup rt_pub", place="/etc/network/interfaces:5"),),
)


def xrule(rule: str, program: str = "ebtables-nft") -> XtablesRule:
    return XtablesRule(program=program, table="filter", rule=rule)


def route(destination: str, device: str = "eth1") -> Route:
    return Route(table=254, destination=ip_network(destination), device=device, protocol=4)


STRICT = {"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/eth1/rp_filter": "1"}
TAPS = {"nics": (nic("tap0"),)}


@pytest.mark.parametrize(
    ("changes", "what", "do"),
    [
        ({"calls": Calls(scripts={"kvm-vif-bridge": False})}, "not of ganeti-vif", "install -D -b -m 755"),
        ({"calls": Calls(scripts={"kvm-vif-bridge": None})}, "missing", "install -D -b -m 755"),
        ({"calls": Calls(scripts={"network/routed/up": None}, nic_setup=True)}, "routed/up is missing", "install -D"),
        (
            {"calls": Calls(hooks={"watcher": None})},
            "watcher/50-ganeti-vif is missing",
            "ln -sfn /usr/lib/ganeti-vif/hook",
        ),
        ({"calls": Calls(hooks={"watcher": "/bin/true"})}, "another program", "ln -sfn"),
        ({"daemons": (replace(VIFD, runs=False),)}, "ganeti-vifd does not run", "restart"),
        (
            {"sysctls": {"net/ipv4/neigh/default/gc_thresh3": "1024"}},
            "net.ipv4.neigh.default.gc_thresh3 is 1024",
            "sysctl -w net.ipv4.neigh.default.gc_thresh3=1280",
        ),
        ({"modules": {"bridge": False}}, "no module bridge", "linux-image"),
        (
            {"config": VLANS, "networkd": None, "unmanaged": None},
            "no module 8021q, which the VLAN uplinks",
            "linux-image",
        ),
        ({"sysctls": STRICT}, "eth1: rp_filter is strict", r"net\.ipv4\.conf\.eth1\.rp_filter=2"),
        (
            {"sysctls": STRICT | {"net/ipv4/conf/all/rp_filter": "1"}},
            "eth1: rp_filter is strict",
            r"net\.ipv4\.conf\.all\.rp_filter=2",
        ),
        ({"sysctls": {"net/bridge/bridge-nf-call-ip6tables": "1"}}, "ip6tables", "bridge-nf-call-ip6tables=0"),
        (
            {"networkd": Networkd(settings={"ManageForeignRoutingPolicyRules": "No"})},
            "ManageForeignRoutes=yes",
            "systemctl restart",
        ),
        ({"networkd": replace(LEAVES_ALONE, files=(BROAD, OURS))}, "manages tap0 .*20-all", r"Name=tap\*"),
        (
            {"networkd": replace(LEAVES_ALONE, files=(OURS, replace(BROAD, proxy_ndp=False)))},
            "proxy_ndp of eth1 to 0",
            r"20-all.network.d/ganeti-vif.conf",
        ),
        ({"unmanaged": ("interface-name:tap*",)}, "NetworkManager manages pvn1", r"interface-name:pvn\*"),
        (
            {"config": VLANS, "networkd": None, "modules": {}, "devices": WELL.devices | {"eth1.10"}},
            "NetworkManager manages eth1.10",
            r"interface-name:eth1\.",
        ),
        (
            {"ifupdown2": True, "stanzas": (bridge(("bridge_ports", "eth0")),)}
            | {"nics": (nic("tap0", Mode.BRIDGED, "br0"),)},
            "interfaces:2: ifreload",
            "condone-regex",
        ),
        (
            {"xtables": (XtablesRule(program="iptables-nft", table="filter", rule="-A FORWARD -i tap7 -j DROP"),)},
            "tap7, that is gone",
            "^iptables-nft -t filter -D FORWARD -i tap7 -j DROP$",
        ),
        (
            {"xtables": (XtablesRule(program="ebtables-nft", table="filter", rule="-A FROMtap0 -s ! aa -j DROP"),)},
            "tap0, of the VM that has it now",
            "^ebtables-nft -t filter -D FROMtap0",
        ),
        (
            {"xtables": (xrule("-N FROMTAP7"), xrule("-A FROMTAP7 -s ! aa:00:00:00:00:05 -j DROP"))},
            "chain of others for tap7, that is gone.*: FROMTAP7",
            "^ebtables-nft -t filter -F FROMTAP7 && ebtables-nft -t filter -X FROMTAP7$",
        ),
        ({"xtables": (xrule("-A FORWARD -i eth9 -j TOTAP0"),)}, "tap0, of the VM", "-D FORWARD -i eth9 -j TOTAP0$"),
        (
            {"xtables": (xrule("-A OUTPUT -j mangle -o eth1 --mangle-ip-s 192.0.2.254", "arptables-nft"),)},
            "changes ARP requests on eth1",
            "^arptables-nft -t filter -D OUTPUT -j mangle -o eth1",
        ),
        (
            {"routes": (route("10.77.1.0/24"),)},
            "by a route of others",
            "^ip route del 10.77.1.0/24 dev eth1 table main$",
        ),
        (
            {"routes": (route("2001:db8:77::/64"),)},
            "by a route of others",
            "^ip -6 route del 2001:db8:77::/64 dev eth1 table main$",
        ),
        (
            {"rules": (PolicyRule(version=4, device="tap7", priority=19998),)},
            "which is gone",
            "^ip rule del pref 19998",
        ),
        ({"rules": (PolicyRule(version=6, device="tap0", priority=9),)} | TAPS, "past ours", "^ip -6 rule del pref 9"),
        ({"nfdhcpd": (Process(pid=7, name="python"),)}, "NFDHCPD runs", "systemctl disable --now nfdhcpd"),
        ({"config": NFDHCPD}, "no NFDHCPD runs", "systemctl enable"),
        ({"tables": {"rt_pub": 99}}, "calls 99 so", r"sed -i -E 's/.*99.*rt_pub"),
        ({"nics": (nic("tap0", link="nowhere"),)}, "routed link nowhere", r"\[public nowhere\]"),
    ],
)
def test_a_conflict_is_found_and_the_fix_is_said(changes: dict[str, Any], what: str, do: str) -> None:
    (found,) = [finding for finding in findings(replace(WELL, **changes)) if finding.grave]
    assert re.search(what, found.what), found
    assert re.search(do, found.do), found
    assert found.what.isascii() and found.do.isascii()
    assert shell_takes(found.do), found.do


@pytest.mark.parametrize(
    "changes",
    [
        {"sysctls": STRICT | {"net/ipv4/conf/eth1/src_valid_mark": "1"}},
        {"sysctls": STRICT | {"net/ipv4/conf/all/rp_filter": "2"}},
        {"networkd": None},
        {"unmanaged": None},
        # its uplink is udev's to tell of, or is not there yet
        {"config": VLANS, "networkd": None, "modules": {}}
        | {"devices": WELL.devices | {"eth1.10"}, "unmanaged": (*ALONE, "eth1.10")},
        {"config": VLANS, "networkd": None, "modules": {}},
        {"calls": Calls(ganeti=False, scripts={"kvm-vif-bridge": None}, hooks={"watcher": None})},
        {"config": NFDHCPD, "nfdhcpd": (Process(pid=7, name="nfdhcpd"),)}
        | {"sysctls": {"net/bridge/bridge-nf-call-iptables": "1"}},
        {"ifupdown2": True, "stanzas": (bridge(("bridge-ports", "eth0"), ("bridge-ports-condone-regex", "^tap")),)}
        | {"nics": (nic("tap0", Mode.BRIDGED, "br0"),)},
        {"ifupdown2": True, "stanzas": (bridge(("bridge-ports", "eth0")),)},
        # a guest that runs and was not taken over yet needs its rule
        {"rules": (PolicyRule(version=4, device="tap0", priority=19998),)},
        {"xtables": (XtablesRule(program="iptables-nft", table="nat", rule="-A POSTROUTING -o eth0 -j MASQUERADE"),)},
        {"modules": dict.fromkeys(WELL.modules)},
        {"tables": {}},
        {"xtables": (xrule("-N DOCKER"), xrule("-A OUTPUT -j mangle -o eth9 --mangle-ip-s 1.2.3.4", "arptables-nft"))},
        {"routes": (route("198.51.100.0/24"), route("10.77.1.0/24", "eth9"))},
        {"config": replace(CONFIG, private=(Private(prefix="pvn", numbers=(1,), uplink=VxlanUplink("eth1", 9)),))}
        | {"modules": {"vxlan": True}, "unmanaged": ("interface-name:tap*", "pvn*", "=vx9*", "vx1*")},
    ],
)
def test_what_is_no_conflict_is_not_told(changes: dict[str, Any]) -> None:
    assert findings(replace(WELL, **changes)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"dhcp": (Process(pid=7, name="dnsmasq"),)},
        {"stanzas": (UPLINK,)},
        {"daemons": (replace(VIFD, runs=False, enabled=False),)},
        {"rules": (PolicyRule(version=4, device="eth1", priority=1),)},
        {"calls": Calls(scripts={"network/routed/up": None})},
    ],
)
def test_what_only_may_be_one_comes_last_and_is_no_error(changes: dict[str, Any]) -> None:
    (found,) = findings(replace(WELL, **changes))
    assert not found.grave
    grave: list[Finding] = findings(replace(WELL, modules={"tun": False}, **changes))
    assert [finding.grave for finding in grave] == [True, False]


def test_the_hooks_that_are_looked_for_are_those_that_are_installed() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    said = {name: value.split() for name, value in re.findall(r"^([A-Z_]+) = (.*)$", makefile, re.MULTILINE)}
    hooks = [word for word in said["HOOKS"] if "%" not in word and not word.startswith("$(")]
    assert set(HOOKS) == {f"instance-{what}-post.d" for what in said["INSTANCE_HOOKS"]} | set(hooks)


def test_the_settings_of_others_are_read_as_they_read_them(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "network": [("/usr/lib/05.network", "[Match]\nName=tap* pvn*\n[Link]\nUnmanaged=yes\n")]
        + [
            ("/etc/20.network", "[Match]\nMACAddress=aa:bb:cc:dd:ee:ff\n"),
            ("/etc/30.network", "[Match]\nType=ether\n"),
        ],
        ".": [("/etc/networkd.conf", "[Network]\n#ManageForeignRoutes=yes\nManageForeignRoutes=yes\n")],
        "networkd.conf.d": [("/usr/lib/x.conf", "[Network]\nManageForeignRoutes=no\n[DHCPv4]\nDUIDType=x\n")],
        "conf.d": [("/usr/lib/a.conf", "[keyfile]\nunmanaged-devices+=interface-name:tap*;interface-name:pvn*\n")],
    }
    running = {"systemd-networkd", "NetworkManager"}
    monkeypatch.setattr(doctor.processes, "named", lambda names: [(7, name) for name in names if name in running])
    monkeypatch.setattr(doctor.settings, "layered", lambda layers, below, suffix: files.get(below, []))
    monkeypatch.setattr(doctor.settings, "text", lambda path: "[keyfile]\nunmanaged-devices=mac:00:11:22:33:44:55\n")
    networkd = doctor._networkd()
    assert networkd
    assert networkd.settings["ManageForeignRoutes"] == "no"
    assert [(file.names, file.unmanaged) for file in networkd.files] == [(("tap*", "pvn*"), True), ((), False)]
    assert doctor._unmanaged({}) == ("mac:00:11:22:33:44:55", *ALONE)
    known = {"/run/udev/data/n5": "I:1\nE:ID_NET_DRIVER=8021q\nE:NM_UNMANAGED=1\n", "/run/udev/data/n6": "I:2\n"}
    monkeypatch.setattr(doctor.settings, "text", known.get)
    assert doctor._unmanaged({"eth1.9": 5, "eth1": 6, "eth2": 7}) == (*ALONE, "eth1.9")
    running.clear()
    assert (doctor._networkd(), doctor._unmanaged({})) == (None, None), "their directories in /run outlive them"


@pytest.mark.parametrize(
    ("rule", "grave"),
    [
        ("-A DOCKER-USER -i tap0 -j ACCEPT", False),
        ("-A DOCKER-USER -i tap0 -j DROP", True),
        ("-A DOCKER-USER -i tap7 -j ACCEPT", True),
    ],
    ids=["lets a VM pass that runs", "drops", "lets the name's next owner pass"],
)
def test_a_rule_that_an_administrator_wrote_to_let_a_vm_pass_is_not_in_the_way(rule: str, grave: bool) -> None:
    (found,) = findings(replace(WELL, xtables=(xrule(rule, "iptables-nft"),)))
    assert found.grave == grave


LIMITED = Profile(name="limited", rules=(("limited.nft:1", "ct state established accept"),), stateful="limited.nft:1")
FOLLOWED = replace(nic("tap0"), grants=Grants(profile="limited"))


@pytest.mark.parametrize(
    ("limit", "nics", "found"),
    [
        ("262144", 1, False),
        ("262144", 49, True),
        ("65536", 1, True),
        ("65536", 0, False),
    ],
)
def test_the_limit_for_connections_has_room_for_each_nic_that_is_followed(limit: str, nics: int, found: bool) -> None:
    followed = tuple(replace(FOLLOWED, tap=f"tap{number}") for number in range(nics))
    facts = replace(
        WELL,
        config=replace(CONFIG, profiles=(LIMITED,)),
        nics=(nic("tap99"), *followed),
        sysctls={"net/netfilter/nf_conntrack_max": limit},
    )
    assert any("nf_conntrack_max is" in one.what for one in findings(facts)) is found


@pytest.mark.parametrize(
    ("conntrack", "found"), [(Conntrack.AUTO, True), (Conntrack.PROFILES, False), (Conntrack.ALL, False)]
)
def test_others_that_need_connections_are_named_where_they_decide(conntrack: Conntrack, found: bool) -> None:
    link = replace(PUBLIC, conntrack=conntrack)
    facts = replace(WELL, config=replace(CONFIG, public=(link,)), followers=("ip nat POSTROUTING", "ip x y"))
    named = [one for one in findings(facts) if "ip nat POSTROUTING and 1 more" in one.what]
    assert bool(named) is found
    assert not any(one.grave for one in named), "guests work"
