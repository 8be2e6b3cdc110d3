"""What happens when Ganeti brings up a NIC: parse the environment, attach, announce.

Ganeti up to 3.1 runs this as kvm-vif-bridge with no arguments, once for every tap, and takes any status but 0 for
a NIC that does not work. From 3.2 on it also comes with ACTION=down (ganeti tools/kvm-nic-setup.in).
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from config.model import Config
from engine.difference import Change
from engine.failure import Failure, remedy
from ganeti import environment as ganeti
from node.in_force import in_force
from outside import lock, log, packets
from outside.node import Node
from vif import routed
from vif.announce import announcements
from vif.attach import attach, detach, recorded_nics, remember
from vif.nic import Mode, Nic
from vif.tap import missing


def main(environment: Mapping[str, str]) -> int:
    """Serve one call of Ganeti's. Returns the exit status."""
    gc.disable()  # the process is over before there is garbage worth looking for
    try:
        order = order_of(environment)
        if order is None:
            return 0
        try:
            config = load()
            with lock.held("nics"), Node() as node:
                obey(order, config, node)
                if isinstance(order, Nic):
                    announce(order, config, node)
        except Failure as failure:
            raise (failure.about(order.whom) if isinstance(order, Nic) else failure) from failure
    except Failure as failure:
        complain(failure)
        return 1
    return 0


@dataclass(frozen=True, slots=True)
class Down:
    """Ganeti takes the NIC with this UUID for gone."""

    uuid: str


def order_of(environment: Mapping[str, str]) -> Nic | Down | None:
    """What Ganeti wants: a NIC attached, one cleared up after, or nothing. Raises Failure."""
    if ganeti.is_communication_tap(environment):
        return None
    if environment.get("ACTION", "up") == "down":
        return Down(ganeti.uuid_of(environment))
    return ganeti.nic_of(environment, tap_index)


def obey(order: Nic | Down, config: Config, node: Node) -> None:
    """Do what Ganeti wants; to announce an attached NIC is the caller's. Raises Failure; a NIC that could not be
    attached is remembered.

    The caller holds the lock `nics`.
    """
    if isinstance(order, Down):
        down(order.uuid, config, node)
        return
    with remembered(order, config, node):
        up(order, config, node)


@contextmanager
def remembered(nic: Nic, config: Config, node: Node) -> Iterator[None]:
    """If NIC cannot be attached meanwhile, whose guest is here, that is noted in its record, and it is tried again."""
    try:
        yield
    except Failure:
        try:
            remember(nic, config, node)
        except Failure as other:
            log.say(other.what, log.Level.ERROR)
        raise


def load() -> Config:
    """The configuration in force, for somebody who may change the node's network. Raises Failure."""
    needs_root()
    return in_force().config


def up(nic: Nic, config: Config, node: Node, *, dry_run: bool = False) -> tuple[Change, ...]:
    """Attach NIC, and say so in the log. Returns the changes. Raises Failure."""
    changes = attach(nic, config, node, dry_run=dry_run)
    if not dry_run:
        say_attached(nic, changes)
    return changes


def say_attached(nic: Nic, changes: tuple[Change, ...]) -> None:
    """Say in the log that NIC was attached by CHANGES."""
    log.say(f"{nic.whom}: attached to {nic.mode.value} {nic.link}, {len(changes)} changes; NIC {nic.uuid}")


def announce(nic: Nic, config: Config, node: Node) -> None:
    """Tell the uplink's neighbours where a routed NIC lives now. A bridged one is the guest's own to announce.

    The NIC works without it, only later for those who remember another node: so a failure is said and not raised.
    """
    public = config.public_link(nic.link) if nic.mode is Mode.ROUTED else None
    uplink = node.devices([public.uplink]).by_name.get(public.uplink) if public else None
    if uplink and uplink.link.mac:
        try:
            packets.send(uplink.name, announcements(routed.addresses(nic), uplink.link.mac))
        except Failure as failure:
            complain(failure.about(nic.whom))


def down(uuid: str, config: Config, node: Node) -> None:
    """Clear up after the NIC with UUID if its tap is gone. Raises Failure.

    A hint and no order: it comes while the guest still runs, repeatedly, and may name another NIC's tap. So only
    the UUID counts, and a NIC whose tap lives is left alone.
    """
    for nic in recorded_nics():
        if nic.uuid == uuid:
            tap = node.devices([nic.tap]).by_name.get(nic.tap)
            if tap is None or tap.index != nic.index:
                forget(nic, config, node)


def forget(nic: Nic, config: Config, node: Node) -> None:
    """Clear what NIC leaves behind, whose tap is gone. Raises Failure."""
    changes = detach(nic, config, node)
    log.say(f"{nic.whom}: its tap is gone, {len(changes)} leftovers removed; NIC {nic.uuid}")


def tap_index(tap: str) -> int:
    """The ifindex of TAP. Raises Failure."""
    try:
        return socket.if_nametoindex(tap)
    except OSError as error:
        raise missing(tap) from error


def needs_root() -> None:
    """Raises Failure if this process cannot change the node's network."""
    if os.geteuid() != 0:
        raise Failure("only root can change the node's network", "note: run it as root")


def complain(failure: Failure) -> None:
    """Print the two lines of FAILURE, and log the first. Ganeti shows them to whoever started the instance."""
    log.say(failure.what, log.Level.ERROR)
    sys.stderr.write(lines(failure))


def lines(failure: Failure) -> str:
    """FAILURE as its two lines."""
    return f"error: {failure.what}\n  {remedy(failure.do)}\n"
