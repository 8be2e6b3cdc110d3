# SPDX-License-Identifier: BSD-2-Clause
"""One NIC in all detail: what its guest is told, its filter rules with their counters, the verdict on one packet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from ganeti_vif.cli import limits
from ganeti_vif.config.model import Config
from ganeti_vif.config.told import shown
from ganeti_vif.desired.context import Context
from ganeti_vif.desired.needs import needs
from ganeti_vif.desired.notes import notes
from ganeti_vif.desired.obstacle import obstacle
from ganeti_vif.doctor.forwarding import Forwarded, Passage, passages
from ganeti_vif.engine.chains import Chain
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Address, Binding, OffloadCheck
from ganeti_vif.engine.state import Object
from ganeti_vif.guard import guard, rules
from ganeti_vif.guard.packet import PROTOCOLS, described, ports_of
from ganeti_vif.guard.protocols import IPV4, IPV6
from ganeti_vif.guard.rules import Packet, decision
from ganeti_vif.lifecycle.context import context_of
from ganeti_vif.lifecycle.recorded import recorded_nics
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.reconcile.forwarding import forward_chains
from ganeti_vif.responder import service
from ganeti_vif.responder.service import TAG
from ganeti_vif.system.node import Node
from nfdhcpd_bridge.reading import Invalid, reading

Row = dict[str, Any]
NUMBERS = {number: name for name, number in PROTOCOLS.items()} | {17: "udp"}
BROADCAST = IPv4Address("255.255.255.255")
_IPV6 = (rules.IP6_SOURCE, rules.IP6_DESTINATION)


def explained(whom: str, packet: str | None, config: Config, node: Node) -> Row:
    """The NICs that WHOM names (a tap, an address, a MAC, an instance), and the verdict on PACKET, as plain data.

    Raises Failure if there is no such NIC, or if PACKET is not understood.
    """
    nics = [nic for nic in recorded_nics() if _is(nic, whom)]
    if not nics:
        raise Failure(f"no NIC on this node is known as {whom}", "see: ganeti-vif status")
    return {"nics": [_nic(nic, packet, config, node) for nic in nics]}


def _is(nic: Nic, whom: str) -> bool:
    try:
        address = ip_address(whom)
    except ValueError:
        return whom in (nic.tap, nic.instance, nic.uuid) or whom.lower() in nic.macs
    return any(address in network for network in (*nic.networks(4), *nic.networks(6))) or address in nic.link_locals


def _nic(nic: Nic, packet: str | None, config: Config, node: Node) -> Row:
    context = context_of(nic, config, node)
    failure = obstacle(nic, context)
    own = needs(nic, config, context).own.values()
    chains = [thing for thing in own if isinstance(thing, Chain)]
    return {
        "instance": nic.instance,
        "nic": nic.number,
        "name": nic.name,
        "uuid": nic.uuid,
        "tap": nic.tap,
        "mode": nic.mode.value,
        "link": nic.link,
        "macs": list(nic.macs),
        "addresses": [str(network) for version in (4, 6) for network in nic.networks(version)],
        "link_local": "any" if context.any_link_local or nic.grants.any_link_local else str(nic.link_local),
        "delegated": [str(prefix) for prefix in nic.delegated],
        "claims": [str(address) for address in nic.claims],
        "shared": {str(address): address in nic.leads and not nic.standby for address in nic.shared},
        "withheld": [str(address) for address in nic.withheld],
        "unguarded": nic.grants.unguarded,
        "offload": _offload(own, node),
        "profile": nic.grants.profile,
        "limits": limits.limits(nic, context.limits),
        **_told(nic, own, config),
        "trouble": failure.what if failure else None,
        "notes": [note.what for note in notes(nic)],
        "chains": [_chain(chain, node) for chain in chains],
        "packet": _verdict(nic, packet, context, node) if packet else None,
    }


def _offload(own: Iterable[Object], node: Node) -> bool | None:
    """Whether the offload check is in place; None if the NIC needs none."""
    wanted = [thing for thing in own if isinstance(thing, OffloadCheck)]
    return [*node.read(wanted).values()] == wanted if wanted else None


def _told(nic: Nic, own: Iterable[Object], config: Config) -> Row:
    """What the responder tells the guest of NIC besides its addresses, and the place of each value. If it refuses the
    binding, `untold` is the reason."""
    binding = next((thing for thing in own if isinstance(thing, Binding)), None)
    if binding is None or not config.responds:
        return {"told": [], "untold": None}
    try:
        found = shown(service.told(reading(binding.text), config))
    except Invalid as invalid:
        return {"told": [], "untold": invalid.reason}
    tags = {one.key: one.source for one in nic.grants.told}
    rows = [{"option": key, "value": text, "source": tags[key] if at == TAG else at} for key, text, at in found]
    return {"told": rows, "untold": None}


def _chain(chain: Chain, node: Node) -> Row:
    """The rules of CHAIN with their counters. A counter is None if the kernel's chain does not have the rule."""
    counted = {one.comment: one.packets for one in node.counted(chain)}
    return {
        "name": chain.name,
        "of": "what its guest sends" if chain.hook == "ingress" else "what reaches it",
        "as_it_should_be": [*counted] == [rule.comment for rule in chain.rules],
        "rules": [
            {
                "reason": rule.reason,
                "verdict": next((verdict for verdict in ("accept", "drop") if rule.text.endswith(verdict)), ""),
                "rule": rule.text,
                "packets": counted.get(rule.comment),
            }
            for rule in chain.rules
        ],
    }


def _verdict(nic: Nic, packet: str, context: Context, node: Node) -> Row:
    mark = context.public.mark if context.public else None
    chain = guard.rules(nic, mark, any_link_local=context.any_link_local)
    fields = described(packet, nic)
    rule = decision(chain, fields)
    shown = {"described": packet, "verdict": rule.verdict.value, "reason": rule.reason, "rule": rule.text}
    forwarded = _forwarded(nic, packet, fields, context, node) if rule.verdict.value == "accept" else None
    return shown | {
        "forward": [_passage(one) for one in passages(forwarded, forward_chains(node, ours=True))] if forwarded else []
    }


def _forwarded(nic: Nic, packet: str, fields: Packet, context: Context, node: Node) -> Forwarded | None:
    """The packet on its way through this node. None if the node does not forward it: NIC is bridged, or it is no IP, or
    it is for a group."""
    version = {IPV4: 4, IPV6: 6}.get(fields.get(rules.PROTOCOL.name, 0))
    if nic.mode is not Mode.ROUTED or version is None:
        return None
    source, destination = (rules.IP_SOURCE, rules.IP_DESTINATION) if version == 4 else _IPV6
    to = _address(fields[destination.name], version)
    if to.is_multicast or to == BROADCAST:
        return None
    public = context.public
    ways = node.routes_over([ip_network(to)], public.table, public.mark) if public else []
    tap = next((one.device for one in ways if public and one.device not in (None, public.uplink)), None)
    upper = fields.get(rules.UPPER.name)
    sport, dport = ports_of(packet)
    outgoing = tap or (public.uplink if public else None)
    devices = node.devices([nic.tap, *([outgoing] if outgoing else [])])
    groups = {name: device.link.group for name, device in devices.by_name.items()}
    return Forwarded(
        version=version,
        incoming=nic.tap,
        outgoing=outgoing,
        incoming_group=groups.get(nic.tap),
        outgoing_group=groups.get(outgoing or ""),
        source=_address(fields[source.name], version),
        destination=to,
        protocol=NUMBERS.get(upper, str(upper)) if upper is not None else None,
        sport=sport,
        dport=dport,
        mark=public.mark if public else None,
    )


def _address(number: int, version: int) -> Address:
    return IPv4Address(number) if version == 4 else IPv6Address(number)


def _passage(passage: Passage) -> Row:
    chain = passage.chain
    return {
        "family": chain.family,
        "table": chain.table,
        "chain": chain.name,
        "program": chain.program or "nft",
        "priority": chain.priority,
        "verdict": passage.verdict.value,
        "by": passage.by,
        "where": chain.where,
    }


def told(found: Row) -> Iterator[str]:
    """FOUND, from explained(), as lines of text."""
    for number, nic in enumerate(found["nics"]):
        yield from [""] * (number > 0)
        which = nic["name"] or (nic["uuid"] if nic["nic"] is None else nic["nic"])
        yield f"{nic['instance']} NIC {which}: {nic['tap']}, {nic['mode']} {nic['link']}"
        yield f"  MAC         {' '.join(nic['macs'])}"
        yield f"  addresses   {' '.join(nic['addresses']) or 'those of its choice'}"
        yield f"  link-local  {nic['link_local']}"
        if nic["delegated"]:
            yield f"  delegated   {' '.join(nic['delegated'])}"
        if nic["claims"]:
            yield f"  claims      {' '.join(nic['claims'])}"
        for address, here in nic["shared"].items():
            yield f"  shared      {address} ({'leads here' if here else 'does not lead here'})"
        if nic["withheld"]:
            yield f"  withheld    {' '.join(nic['withheld'])}: another machine has it"
        yield f"  guard       {'off, by a tag (unguarded)' if nic['unguarded'] else 'on'}"
        if nic["offload"] is not None:
            yield f"  checksums   {'checked' if nic['offload'] else 'NOT checked: see: ganeti-vif check'}"
        if nic["profile"]:
            yield f"  profile     {nic['profile']}"
        yield from limits.told(nic["limits"])
        for number, one in enumerate(nic["told"]):
            yield f"  {'' if number else 'told':11} {one['option']} {one['value']}  ({one['source']})"
        if nic["untold"]:
            yield f"  told        nothing: its binding is refused: {nic['untold']}"
        if nic["trouble"]:
            yield f"  trouble     {nic['trouble']}"
        for note in nic["notes"]:
            yield f"  note        {note}"
        if nic["packet"]:
            packet = nic["packet"]
            yield f"  packet      {packet['described']}"
            verb = "passes" if packet["verdict"] == "accept" else "is dropped"
            yield f"  {verb:11} {packet['reason']}: {packet['rule']}"
            for one in packet["forward"]:
                yield f"  {one['verdict']:11} forwarded, {one['where']}: {one['by']}"
        else:
            yield from _rules(nic)


def _rules(nic: Row) -> Iterator[str]:
    """The sum of the counters for each reason. Single rules are in the JSON only."""
    for chain in nic["chains"]:
        state = "" if chain["as_it_should_be"] else "; it is not as it should be: ganeti-vif check"
        yield f"  {chain['name']}: {chain['of']}{state}"
        for verdict, verb in (("accept", "passes"), ("drop", "drops"), ("", "changes")):
            reasons: dict[str, list[int | None]] = {}
            for rule in chain["rules"]:
                if rule["verdict"] == verdict:
                    reasons.setdefault(rule["reason"], []).append(rule["packets"])
            for reason, counts in reasons.items():
                known = [count for count in counts if count is not None]
                yield f"    {verb:8} {sum(known) if known else '-':>10}  {reason}"
