# SPDX-License-Identifier: BSD-2-Clause
"""Each check is a small decision on the facts. `CHECKS` has all of them, in the order of the output."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ganeti_vif.config.model import Consumer, VlanUplink, VxlanUplink
from ganeti_vif.doctor import leftovers, services, shared_tables
from ganeti_vif.doctor.facts import Facts, Finding
from ganeti_vif.doctor.forward_drops import drops
from ganeti_vif.doctor.network_programs import (
    ifupdown2_ports,
    network_manager,
    networkd_devices,
    networkd_foreign_routes,
    networkd_uplinks,
)
from ganeti_vif.engine.naming import dotted
from ganeti_vif.nic.nic import Mode

STRICT, LOOSE = "1", "2"


def kernel_modules(facts: Facts) -> Iterator[Finding]:
    """Kernel modules that the configuration needs and the kernel lacks."""
    wanted = {"bridge": "any private network", "tun": "any VM", "nf_tables": "the filter of every NIC"}
    for private in facts.config.private:
        match private.uplink:
            case VlanUplink():
                wanted["8021q"] = f"the VLAN uplinks of [private {private.prefix}]"
            case VxlanUplink():
                wanted["vxlan"] = f"the VXLAN uplinks of [private {private.prefix}]"
    if facts.config.bindings.consumer is Consumer.NFDHCPD and facts.config.private:
        wanted["br_netfilter"] = "NFDHCPD on bridges"
    for module, why in wanted.items():
        if facts.modules.get(module) is False:
            yield Finding(
                what=f"the running kernel has no module {module}, which {why} needs",
                do="apt install linux-image-amd64",
                note="a kernel that was upgraded is in use after a restart of the node",
            )


def strict_reverse_path(facts: Facts) -> Iterator[Finding]:
    """rp_filter = 1 drops a packet if the main table has no route back over its device, unless src_valid_mark is 1.

    The larger value of conf/all and the device's own is in force (kernel Documentation/networking/ip-sysctl.rst).
    """
    ours = {public.name for public in facts.config.public} | {str(public.table) for public in facts.config.public}
    taps = {nic.tap for nic in facts.nics if nic.mode is Mode.ROUTED and nic.link not in ours}
    for device in sorted({public.uplink for public in facts.config.public} | taps):
        if _either(facts, "rp_filter", device) != STRICT or _either(facts, "src_valid_mark", device) == "1":
            continue
        yield Finding(
            what=f"{device}: rp_filter is strict, and drops packets of VMs whose route is in another table than main",
            do=f"sysctl -w net.ipv4.conf.all.rp_filter={LOOSE}"
            if facts.sysctls.get("net/ipv4/conf/all/rp_filter") == STRICT
            else f"sysctl -w {dotted(f'net/ipv4/conf/{device}/rp_filter')}={LOOSE}",
        )


def _either(facts: Facts, name: str, device: str) -> str:
    return max(facts.sysctls.get(f"net/ipv4/conf/{scope}/{name}", "0") for scope in ("all", device))


def bridge_netfilter(facts: Facts) -> Iterator[Finding]:
    """With br_netfilter, rules for routed packets also apply to bridged packets, which few administrators expect."""
    if facts.config.bindings.consumer is Consumer.NFDHCPD:
        return  # NFDHCPD gets the requests of bridged guests by br_netfilter
    for name in ("iptables", "ip6tables", "arptables"):
        switch = f"net.bridge.bridge-nf-call-{name}"
        if facts.sysctls.get(f"net/bridge/bridge-nf-call-{name}") == "1":
            yield Finding(
                what=f"what bridges forward passes {name} too (br_netfilter): its rules drop packets of VMs",
                do=f"sysctl -w {switch}=0 && echo '{switch} = 0' > /etc/sysctl.d/ganeti-vif-{name}.conf",
                note="udev applies such a file whenever br_netfilter is loaded; Docker sets it to 1 when it starts",
            )


def forward_chains(facts: Facts) -> Iterator[Finding]:
    """A FORWARD chain that drops cuts off routed guests."""
    for failure in drops(facts.nics, facts.config, facts.forwarding):
        yield Finding(
            what=failure.what,
            do=failure.do,
            note="write it where that program keeps its rules, too: docs/troubleshooting.md has the places",
        )


def dhcp_servers(facts: Facts) -> Iterator[Finding]:
    """Two DHCP servers give a guest two answers."""
    for process in facts.dhcp:
        yield Finding(
            what=f"{process.name} (process {process.pid}) listens for DHCP requests on this node",
            do=f"see: ps -fp {process.pid}",
            note="it must serve no bridge and no tap of VMs",
            grave=False,
        )
    consumer = facts.config.bindings.consumer
    if facts.nfdhcpd and consumer is not Consumer.NFDHCPD:
        yield Finding(
            what=f"NFDHCPD runs (process {facts.nfdhcpd[0].pid}), and [bindings] has consumer = {consumer.value}",
            do="systemctl disable --now nfdhcpd"
            if facts.systemd
            else "service nfdhcpd stop && update-rc.d nfdhcpd disable",
            note="or consumer = nfdhcpd in [bindings], if it is to serve guests",
        )
    if not facts.nfdhcpd and consumer is Consumer.NFDHCPD:
        yield Finding(
            what="the configuration has consumer = nfdhcpd, and no NFDHCPD runs: no guest gets an address",
            do="systemctl enable --now nfdhcpd"
            if facts.systemd
            else "update-rc.d nfdhcpd enable && service nfdhcpd start",
            note="or consumer = responder in [bindings]",
        )


def table_names(facts: Facts) -> Iterator[Finding]:
    """Names of routing tables that contradict the configuration, and links that are no table."""
    for public in facts.config.public:
        number = facts.tables.get(public.name)
        if number not in (None, public.table):
            # A name is optional, because ip accepts the number. But a name for another table misleads.
            pattern = f"^([[:space:]]*){number}([[:space:]]+{re.escape(public.name)})([[:space:]]|$)"
            yield Finding(
                what=f"[public {public.name}] has table {public.table}, and /etc/iproute2/rt_tables calls {number} so",
                do=f"grep -rlE '{pattern}' /etc/iproute2 | xargs sed -i -E 's/{pattern}/\\1{public.table}\\2\\3/'",
                note=f"or table = {number} in [public {public.name}], if others use that name for that table",
            )
    links = {nic.link for nic in facts.nics if nic.mode is Mode.ROUTED and not facts.config.public_link(nic.link)}
    for link in sorted(links):
        if not link.isdigit() and link not in facts.tables:
            yield Finding(
                what=f"NICs have the routed link {link}, which is neither a [public] section nor a routing table",
                do=f"note: add [public {link}] to /etc/ganeti-vif/ganeti-vif.conf, and then: ganeti-vif setup",
            )


def called(facts: Facts) -> Iterator[Finding]:
    """Whether Ganeti calls our scripts and hooks."""
    yield from services.scripts(facts.calls)
    yield from services.hooks(facts.calls)


def daemons(facts: Facts) -> Iterator[Finding]:
    """Our daemons. VMs work without them for a while, but faults and leftovers stay until the next hook."""
    for daemon in facts.daemons:
        yield from services.stopped(daemon)


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    called,
    daemons,
    kernel_modules,
    strict_reverse_path,
    shared_tables.neighbours,
    shared_tables.connection_limit,
    shared_tables.followers,
    bridge_netfilter,
    forward_chains,
    networkd_foreign_routes,
    networkd_devices,
    networkd_uplinks,
    network_manager,
    ifupdown2_ports,
    leftovers.xtables,
    leftovers.rules,
    leftovers.uplink_rules,
    leftovers.routes,
    dhcp_servers,
    table_names,
)


def findings(facts: Facts) -> list[Finding]:
    """The findings of all checks, the grave ones first."""
    found = [finding for check in CHECKS for finding in check(facts)]
    return sorted(found, key=lambda finding: not finding.grave)
