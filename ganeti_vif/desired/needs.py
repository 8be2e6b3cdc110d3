# SPDX-License-Identifier: BSD-2-Clause
"""All that a NIC needs from the node: its own objects, and those that it shares with other NICs of its link."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from ganeti_vif.config import values
from ganeti_vif.config.model import MOST_CONNECTIONS, Config, Consumer, For
from ganeti_vif.desired import bridged, openvswitch, routed
from ganeti_vif.desired.context import Context
from ganeti_vif.engine.objects import ETHERNET_MTU, Binding, Key, Link, ProxyNeighbour, Route, Rule, Sysctl, TrunkVlan
from ganeti_vif.engine.state import Object, state
from ganeti_vif.guard import connections, profile
from ganeti_vif.nic.nic import Mode, Network, Nic, eui64
from ganeti_vif.nic.record import record_of
from ganeti_vif.nic.tags import LEASES
from host_setup import public
from nfdhcpd_bridge import binding


@dataclass(frozen=True, slots=True)
class Needs:
    """The objects that a NIC needs. OWN ones go away with the NIC. SHARED ones stay."""

    own: dict[Key, Object]
    shared: dict[Key, Object]

    @property
    def all(self) -> dict[Key, Object]:
        return state([*self.shared.values(), *self.own.values()])

    @property
    def removable(self) -> dict[Key, Object]:
        """What a detach removes. The tap is QEMU's and stays. Its sysctls go with it."""
        return {key: thing for key, thing in self.own.items() if not isinstance(thing, Link | Sysctl)}


def needs(nic: Nic, config: Config, context: Context) -> Needs:
    """What NIC needs, by CONFIG and by CONTEXT."""
    own: list[Object] = [record_of(nic)]
    shared: list[Object] = list(profile.shared(nic, context.profile))
    shared += connections.shared(nic, context.profile, context.public, context.following)
    own += profile.own(nic, context.profile)
    own += connections.own(nic, context.profile, context.public.connections if context.public else MOST_CONNECTIONS)
    match nic.mode:
        case Mode.BRIDGED:
            for thing in bridged.needs(nic, context):
                (shared if isinstance(thing, TrunkVlan) else own).append(thing)
            if context.configured and config.bindings.consumer is Consumer.NFDHCPD:
                from host_setup.nfdhcpd import heard  # an attach that does not need it does not wait for it

                shared.append(heard(nic.link))
        case Mode.ROUTED:
            own += (thing for thing in routed.needs(nic, context) if not (nic.standby and only_here(nic, thing)))
            shared += public.desired(context.public, context.force_forwarding) if context.public else ()
        case Mode.OPENVSWITCH:
            own += openvswitch.needs(nic, context)
    if not nic.standby:
        own += _binding(nic, config, context)
    return Needs(state(own), state(shared))


def only_here(nic: Nic, thing: Object) -> bool:
    """Whether NIC needs THING only on the node where its guest runs: what makes others send to it, and its binding."""
    if isinstance(thing, ProxyNeighbour):
        return thing.device != nic.tap
    return isinstance(thing, Route | Rule | Binding)


def _binding(nic: Nic, config: Config, context: Context) -> Iterator[Binding]:
    wanted = {
        For.TAGGED: LEASES in nic.network_tags,
        For.ROUTED: nic.mode is Mode.ROUTED,
        For.ALL: True,
    }
    if config.bindings.consumer is Consumer.NONE or not wanted[config.bindings.wanted_for]:
        return
    network = nic.network
    subnet = network.subnet if network else None
    if subnet is None and context.public and nic.address:
        subnet = context.public.subnet_of(nic.address)  # type: ignore[assignment]
    subnet6 = nic.prefix6 or (network.subnet6 if network else None)
    address6 = None
    if subnet6 and (subnet6.prefixlen != 64 or nic.address6 != eui64(subnet6, nic.mac)):
        # A binding cannot tell NFDHCPD any other IPv6 address than the one that SLAAC makes.
        given = nic.address6 or _granted6(nic, subnet6)
        if config.responds and given and given in subnet6:
            address6 = given
        else:
            subnet6 = None
    gateway6 = routed.gateway_of(nic, context.public, 6)
    outside = isinstance(gateway6, IPv6Address) and (gateway6.is_link_local or nic.prefix6 is not None)
    if outside and not config.responds:
        # NFDHCPD advertises the gateway as the prefix. No guest makes an address of a link-local one, and in its own
        # prefix there is no gateway.
        gateway6 = None
    lower = context.uplink if nic.mode is Mode.ROUTED else context.bridge
    mtu = lower.mtu if lower and lower.mtu != ETHERNET_MTU else None
    ours = config.bindings.consumer is Consumer.RESPONDER  # also if it is not enabled: it may be, without an attach
    yield Binding(
        directory=config.bindings.directory,
        tap=nic.tap,
        text=binding.text(
            uuid=nic.uuid,
            device=nic.tap if nic.mode is Mode.ROUTED else nic.link,
            mac=nic.mac,
            hostname=nic.instance,
            address=nic.address,
            subnet=subnet,
            gateway=routed.gateway_of(nic, context.public, 4),
            subnet6=subnet6,
            gateway6=gateway6,
            mtu=mtu,
            address6=address6,
            alone=ours and nic.prefix6 is not None,
            network=_told_name(network) if ours else None,
            told={saying.key: saying.text for saying in nic.grants.told} if ours else None,
            shared=nic.shared if ours and nic.mode is Mode.ROUTED else (),
            delegated=nic.delegated if ours else (),
            sources6=nic.networks(6) if ours and not nic.grants.unguarded else None,
        ),
    )


def _told_name(network: Network | None) -> str | None:
    """The name by which [network NAME] can mean NETWORK; None if it cannot have such a section."""
    try:
        return values.ganeti_network(network.name) if network else None
    except ValueError:
        return None


def _granted6(nic: Nic, prefix: IPv6Network) -> IPv6Address | None:
    """The first address in PREFIX that a tag grants NIC. Where SLAAC makes none, DHCPv6 gives the guest this one."""
    granted = (one for one in nic.networks(6) if one in nic.grants.addresses)
    mine = (one.network_address for one in granted if one.num_addresses == 1)
    return next((one for one in mine if isinstance(one, IPv6Address) and one in prefix), None)
