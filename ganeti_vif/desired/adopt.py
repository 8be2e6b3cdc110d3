# SPDX-License-Identifier: BSD-2-Clause
"""Which NICs of running guests can be adopted, and why the others cannot. Pure.

This compares what Ganeti wrote down (a runtime file) with what QEMU says and what the kernel has. After a hot change,
the order of the file, the numbers of the nic files and the order of the configuration all differ. Only QEMU's name for
a NIC leads to its tap. An ambiguous NIC is left alone: no tenant may get the NIC of another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ganeti_vif.desired import bridged, routed
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Link
from ganeti_vif.nic.identity import has_tap, is_same
from ganeti_vif.nic.nic import Mode, Nic

COMMUNICATION = "gnt.com."
"""The taps of Ganeti's instance communication have names that begin like this. They are not ours."""

_RESTART = "gnt-instance reboot --type=hard"
"""Repairs a guest whose NICs cannot be told apart: the instance restarts, with a new runtime file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A NIC as its runtime file describes it. Tap and ifindex are unknown. NETDEV is QEMU's name for it."""

    nic: Nic
    netdev: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An instance as its runtime file describes it. REFUSED are NICs (by netdev) that nobody could parse."""

    name: str
    nics: tuple[Described, ...]
    refused: tuple[tuple[str, Failure], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugged:
    """What a running QEMU has: TAPS by netdev, and BY_MAC the netdevs that have no ID of Ganeti's."""

    taps: Mapping[str, frozenset[str]]
    by_mac: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What this node has: devices, the bridge (or switch) of each port, and the NICs with a readable record."""

    links: Mapping[str, Link]
    masters: Mapping[str, str]
    recorded: Mapping[str, Nic]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One instance: its NICs with a record, those to be ADOPTED, those UNPLUGGED, and why the others are REFUSED."""

    recorded: tuple[Nic, ...] = ()
    adopted: tuple[Nic, ...] = ()
    unplugged: tuple[Nic, ...] = ()
    refused: tuple[Failure, ...] = ()


def judge(instance: Instance, plugged: Plugged, here: Here) -> Verdict:
    """What to do with each NIC of a running INSTANCE."""
    recorded: list[Nic] = []
    adopted: list[Nic] = []
    unplugged: list[Nic] = []
    refused = [failure for _, failure in instance.refused]
    claims = [(one, _netdev(one, plugged)) for one in instance.nics]
    claimed = Counter(netdev for _, netdev in claims)
    for one, netdev in claims:
        if netdev not in plugged.taps:
            unplugged.append(one.nic)
            continue
        try:
            if claimed[netdev] > 1:
                raise Failure(f"two NICs of its runtime file are QEMU's {netdev}", f"{_RESTART} {instance.name}")
            nic = _with_tap(one.nic, netdev, plugged, here)
        except Failure as failure:
            refused.append(failure.about(_seen(one.nic, plugged.taps[netdev]).whom))
            continue
        if nic is not None:
            (recorded if _is_recorded(nic, here) else adopted).append(nic)
    told = {*claimed, *(netdev for netdev, _ in instance.refused)}
    refused += _strangers(instance, plugged, here, told)
    return Verdict(recorded=tuple(recorded), adopted=tuple(adopted), unplugged=tuple(unplugged), refused=tuple(refused))


def _netdev(one: Described, plugged: Plugged) -> str:
    return one.netdev if one.netdev in plugged.taps else plugged.by_mac.get(one.nic.mac, one.netdev)


def _seen(nic: Nic, taps: frozenset[str]) -> Nic:
    """NIC with the tap that it seems to have, for a message."""
    return replace(nic, tap=next(iter(taps))) if len(taps) == 1 else nic


def _with_tap(nic: Nic, netdev: str, plugged: Plugged, here: Here) -> Nic | None:
    """NIC with its tap, or None if the tap is not ours. Raises Failure if the tap is uncertain, or Ganeti disagrees."""
    taps = plugged.taps[netdev]
    if len(taps) != 1:
        found = " and ".join(sorted(taps)) or "no tap"
        raise Failure(f"behind QEMU's {netdev} there is {found}, where one tap should be", f"{_RESTART} {nic.instance}")
    (tap,) = taps
    if tap.startswith(COMMUNICATION):
        return None
    others = sorted(other for other, theirs in plugged.taps.items() if tap in theirs and other != netdev)
    if others:
        raise Failure(f"{tap} is behind QEMU's {netdev} and {others[0]}", f"{_RESTART} {nic.instance}")
    link = here.links.get(tap)
    if link is None or link.index is None:
        raise Failure(f"QEMU holds {tap}, which is not on this node", "see: ip link show")
    known = here.recorded.get(tap)
    if known and has_tap(known, link) and known.uuid != nic.uuid:
        raise Failure(
            f"{tap} was attached as {known.instance} NIC {known.uuid}, and QEMU says it is {nic.uuid}",
            f"see: ganeti-vif status && gnt-instance info {nic.instance}",
        )
    _same_place(nic, tap, here.masters.get(tap))
    return replace(nic, tap=tap, index=link.index, tap_mac=_kept(nic, link.mac))


def _same_place(nic: Nic, tap: str, master: str | None) -> None:
    """Raises Failure if the tap is connected elsewhere than the NIC should be: adopt moves no tap."""
    allowed = {Mode.BRIDGED: nic.link, Mode.OPENVSWITCH: "ovs-system", Mode.ROUTED: None}[nic.mode]
    if master not in (None, allowed):
        wanted = "routed" if nic.mode is Mode.ROUTED else f"{nic.mode.value} on {nic.link}"
        raise Failure(
            f"{tap} is a port of {master}, and Ganeti has the NIC {wanted}",
            f"note: if Ganeti is right: ip link set {tap} nomaster && ganeti-vif adopt",
        )


def _kept(nic: Nic, mac: str | None) -> str | None:
    """MAC if it is not the one that attach gives. The tap keeps it: the guest knows it as its gateway's MAC."""
    usual = routed.TAP_MAC if nic.mode is Mode.ROUTED else bridged.port_mac(nic.mac)
    return None if mac == usual else mac


def _is_recorded(nic: Nic, here: Here) -> bool:
    known = here.recorded.get(nic.tap)
    return is_same(nic, known)


def _strangers(instance: Instance, plugged: Plugged, here: Here, told: set[str]) -> Iterator[Failure]:
    """The taps of this QEMU that no NIC of the runtime file explains: a hot-add failed half-way."""
    for netdev in sorted(plugged.taps.keys() - told):
        for tap in sorted(plugged.taps[netdev]):
            link, known = here.links.get(tap), here.recorded.get(tap)
            if tap.startswith(COMMUNICATION) or (known and has_tap(known, link)):
                continue
            yield Failure(
                f"{instance.name}: QEMU has {netdev} on {tap}, of which its runtime file knows nothing",
                f"{_RESTART} {instance.name}",
            )
