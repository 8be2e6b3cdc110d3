# SPDX-License-Identifier: BSD-2-Clause
"""The filter chains of a NIC's tap: what its guest sends, and what reaches it.

One netdev chain on the tap's ingress filters what the guest sends, by the rules of guard/guard.py. It sees each frame
before bridge and routing do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from ganeti_vif.config.limits import Limits
from ganeti_vif.engine.chains import Chain, FilterRule
from ganeti_vif.engine.objects import Address, OffloadCheck
from ganeti_vif.guard import guard
from ganeti_vif.guard import limits as of_nic
from ganeti_vif.guard.offload import PROGRAM
from ganeti_vif.guard.protocols import EXPERIMENTAL, IPV4, IPV6
from ganeti_vif.guard.rules import filter_rule, mac_number
from ganeti_vif.nic.nic import Nic


def ingress(nic: Nic, mark: int | None = None, *, any_link_local: bool = False, limits: Limits | None = None) -> Chain:
    """The chain for what NIC's guest may send, within LIMITS. Every packet gets MARK, if given."""
    own = _own_words(nic)
    return _chain(
        nic,
        "in",
        "ingress",
        "drop",
        *(filter_rule(rule, own) for rule in guard.rules(nic, mark, any_link_local=any_link_local, limits=limits)),
    )


def offload(nic: Nic) -> Iterator[OffloadCheck]:
    """The program that marks frames whose checksum would change them after the filter. An unguarded NIC needs none: its
    rules read only the MACs and the VLAN tag, and no sum can go before the 20th byte, which is behind those."""
    if not nic.grants.unguarded:
        yield OffloadCheck(device=nic.tap, program=PROGRAM)


def reaching(nic: Nic, gateway: Address | None, limits: Limits) -> Iterator[Chain]:
    """The chain for what reaches a routed NIC, if it needs one: above LIMITS it is dropped. GATEWAY, if given, is where
    the node's ARP requests to the guest come from: the only neighbour that the guest knows. Most NICs have the gateway
    of their link, and need no chain of their own (host_setup/public.py)."""
    rules = of_nic.reaching(limits)
    if rules:
        # The node looks whether the guest runs (daemon/second_look.py), and that must not wait for the guest's packets.
        rules.insert(0, FilterRule(f"meta protocol {EXPERIMENTAL:#06x} accept", "a look whether the guest runs"))
    if gateway:
        assert isinstance(gateway, IPv4Address)
        words = f"arp operation request arp saddr ip set {gateway}"
        rules.append(FilterRule(words, "ARP requests come from the gateway"))
    if rules:
        yield _chain(nic, "out", "egress", "accept", *rules)


def egress(
    nic: Nic, apart: bool, bridge_mac: str | None, profile: Iterable[FilterRule], limits: Limits
) -> Iterator[Chain]:
    """The chain for what reaches a NIC on a bridge, if it needs one. PROFILE's rules apply. APART: only frames from the
    NIC's own network pass. Above LIMITS it is dropped.

    `private-filtered`: many networks share a bridge, and each network has a MAC prefix. The NIC's own MAC tells the
    prefix: Ganeti makes it from the network's prefix, or else from the cluster's. NFDHCPD answers from BRIDGE_MAC. No
    guest can send from it.
    """
    rules = []
    if apart:
        foreign = [f"ether saddr & ff:ff:ff:00:00:00 != {nic.mac[:8]}:00:00:00"]
        foreign += [f"ether saddr != {bridge_mac}"] if bridge_mac else []
        rules.append(FilterRule(f"{' '.join(foreign)} counter drop", "another network's MAC prefix"))
    rules += of_nic.reaching(limits)
    rules += profile
    if rules:
        yield _chain(nic, "out", "egress", "drop", *rules, FilterRule("counter accept", "the rest"))


def _chain(nic: Nic, suffix: str, hook: str, policy: str, *rules: FilterRule) -> Chain:
    return Chain(
        family="netdev",
        name=f"{nic.tap}-{suffix}",
        hook=hook,
        device=nic.tap,
        priority=0,
        policy=policy,
        rules=rules,
    )


def _own_words(nic: Nic) -> tuple[str, ...]:
    """The words of rules that differ between NICs: its MACs and addresses, in each form that rules use.

    The order never depends on the values: the same rule of two NICs has one shape (kernel/nftables/compiled_rules.py).
    """
    addresses: list[Address] = [n.network_address for v in (4, 6) for n in nic.networks(v) if n.num_addresses == 1]
    addresses += nic.link_locals
    words = [*nic.macs, *map(str, addresses), *(f"{mac_number(mac):#014x}" for mac in nic.macs)]
    words += (f"{mac_number(nic.mac):#014x}{kind:04x}" for kind in (IPV4, IPV6))
    words += (f"{int(a):#034x}" if isinstance(a, IPv6Address) else f"{int(a):#010x}" for a in addresses)
    if nic.prefix6:
        words += (str(nic.prefix6), f"{int(nic.prefix6.network_address) >> 64:#018x}")
    return tuple(dict.fromkeys(words))
