"""Each check is a small decision on the facts; `CHECKS` is all of them, in the order in which they are told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from config.model import Consumer, VlanUplink, VxlanUplink
from doctor import services
from doctor.facts import Facts, Finding
from doctor.network_programs import (
    ifupdown2_ports,
    network_manager,
    networkd_devices,
    networkd_foreign_routes,
    networkd_uplinks,
)
from engine.words import dotted
from vif.nic import Mode

TAP = re.compile(r"tap[0-9]+")
STRICT, LOOSE = "1", "2"
TABLES = "/etc/iproute2/rt_tables.d/ganeti-vif.conf"


def kernel_modules(facts: Facts) -> Iterator[Finding]:
    """What the configuration needs and the kernel cannot do."""
    wanted = {"bridge": "any private network", "tun": "any VM", "nf_tables": "the filter of every NIC"}
    for private in facts.config.private:
        match private.uplink:
            case VlanUplink():
                wanted["8021q"] = f"the VLAN uplinks of [private {private.prefix}]"
            case VxlanUplink():
                wanted["vxlan"] = f"the VXLAN uplinks of [private {private.prefix}]"
    for module, why in wanted.items():
        if facts.modules.get(module) is False:
            yield Finding(
                what=f"the running kernel has no module {module}, which {why} needs",
                do="boot a kernel of Debian's package linux-image-amd64; after a kernel upgrade, restart the node",
            )


def strict_reverse_path(facts: Facts) -> Iterator[Finding]:
    """rp_filter = 1 drops what comes in where the main table would not send the answer, unless the mark counts too.

    The larger of conf/all and the device's own is in force (kernel Documentation/networking/ip-sysctl.rst).
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
    """With br_netfilter, the rules for what the node routes apply to what its bridges forward, which surprises."""
    if facts.config.bindings.consumer is Consumer.NFDHCPD:
        return  # hears bridged guests by this; then it is wanted
    for name in ("iptables", "ip6tables", "arptables"):
        if facts.sysctls.get(f"net/bridge/bridge-nf-call-{name}") == "1":
            yield Finding(
                what=f"what bridges forward passes {name} too (br_netfilter): rules for the node drop packets of VMs",
                do=f"sysctl -w net.bridge.bridge-nf-call-{name}=0; for good: in a file in /etc/sysctl.d",
            )


def stale_xtables(facts: Facts) -> Iterator[Finding]:
    """Rules that snf-network and gnt-networking made for a tap outlive it, and meet its name's next owner."""
    for rule in facts.xtables:
        words = rule.rule.split()
        taps = [word for word in words if TAP.fullmatch(word) or re.fullmatch(r"(FROM|TO)(-?)tap[0-9]+", word)]
        if not taps:
            continue
        tap = taps[0][taps[0].index("tap") :]
        alive = "of the VM that has it now" if tap in facts.devices else "that is gone: its next owner meets it"
        yield Finding(
            what=f"{rule.program} has a rule of others for {tap}, {alive}: {rule.rule}",
            do=f"{rule.program} -t {rule.table} {rule.rule.replace('-A ', '-D ', 1)}",
        )


def stale_rules(facts: Facts) -> Iterator[Finding]:
    """Policy rules for a tap outlive it too."""
    for rule in facts.rules:
        if not TAP.fullmatch(rule.device):
            continue
        mine = any(nic.tap == rule.device for nic in facts.nics)
        if rule.device in facts.devices and not mine:
            continue  # a guest that was not taken over needs it
        ip = "ip -6" if rule.version == 6 else "ip"
        yield Finding(
            what=f"a policy rule of others is for {rule.device}, "
            + ("and sends its packets past ours" if mine else "which is gone: its name's next owner meets it"),
            do=f"{ip} rule del pref {rule.priority} iif {rule.device}",
        )


def uplink_rules(facts: Facts) -> Iterator[Finding]:
    """snf-network's rule for its uplink (`ip rule iif UPLINK`), which does nothing any more."""
    uplinks = {public.uplink: public for public in facts.config.public}
    for rule in facts.rules:
        if rule.device in uplinks:
            ip = "ip -6" if rule.version == 6 else "ip"
            yield Finding(
                what=f"a policy rule of others is for the uplink {rule.device}: our mark does the same",
                do=f"{ip} rule del pref {rule.priority} iif {rule.device}; and out of /etc/network/interfaces",
                grave=False,
            )


def dhcp_servers(facts: Facts) -> Iterator[Finding]:
    """Two that answer a guest's question give it two answers."""
    for process in facts.dhcp:
        yield Finding(
            what=f"{process.name} (process {process.pid}) listens for DHCP requests on this node",
            do=f"see that it serves no bridge or tap of VMs, and if it does, stop it: systemctl status {process.pid}",
            grave=False,
        )
    if facts.nfdhcpd and facts.config.bindings.consumer is not Consumer.NFDHCPD:
        yield Finding(
            what=f"NFDHCPD runs (process {facts.nfdhcpd[0].pid}), and the configuration has "
            f"consumer = {facts.config.bindings.consumer.value}",
            do="in [bindings]: consumer = nfdhcpd; or stop it: systemctl disable --now nfdhcpd",
        )
    if not facts.nfdhcpd and facts.config.bindings.consumer is Consumer.NFDHCPD:
        yield Finding(
            what="the configuration has consumer = nfdhcpd, and no NFDHCPD runs: no guest gets an address",
            do="start it: systemctl enable --now nfdhcpd; or in [bindings]: consumer = responder",
        )


def table_names(facts: Facts) -> Iterator[Finding]:
    """Names of tables that are missing, or mean another table."""
    for public in facts.config.public:
        number = facts.tables.get(public.name)
        if number is None:
            yield Finding(
                what=f"the table {public.table} of [public {public.name}] has no name for `ip route show table`",
                do=f"mkdir -p /etc/iproute2/rt_tables.d; echo {public.table} {public.name} >> {TABLES}",
                grave=False,
            )
        elif number != public.table:
            yield Finding(
                what=f"[public {public.name}] has table {public.table}, and /etc/iproute2/rt_tables calls {number} so",
                do=f"make both the same: table = {number}, or in rt_tables: {public.table} {public.name}",
            )
    links = {nic.link for nic in facts.nics if nic.mode is Mode.ROUTED and not facts.config.public_link(nic.link)}
    for link in sorted(links):
        if not link.isdigit() and link not in facts.tables:
            yield Finding(
                what=f"NICs have the routed link {link}, which is neither a [public] section nor a routing table",
                do=f"add [public {link}] to /etc/ganeti-vif/ganeti-vif.conf",
            )


def called(facts: Facts) -> Iterator[Finding]:
    """Whether Ganeti calls us."""
    yield from services.scripts(facts.calls)
    yield from services.hooks(facts.calls)


def daemons(facts: Facts) -> Iterator[Finding]:
    """VMs work without them for a while; nobody repairs, and leftovers stay until a hook comes."""
    for daemon in facts.daemons:
        yield from services.stopped(daemon)


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    called,
    daemons,
    kernel_modules,
    strict_reverse_path,
    bridge_netfilter,
    networkd_foreign_routes,
    networkd_devices,
    networkd_uplinks,
    network_manager,
    ifupdown2_ports,
    stale_xtables,
    stale_rules,
    uplink_rules,
    dhcp_servers,
    table_names,
)


def findings(facts: Facts) -> list[Finding]:
    """What all checks find, the grave ones first."""
    found = [finding for check in CHECKS for finding in check(facts)]
    return sorted(found, key=lambda finding: not finding.grave)
