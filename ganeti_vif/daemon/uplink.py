# SPDX-License-Identifier: BSD-2-Clause
"""What the two nodes of a migration say to each other on the uplink: that a guest runs here, and that it was let go.

The first is signed, for it takes a guest from a node. The second takes nothing from anybody.
"""

from __future__ import annotations

import time

from ganeti_vif.config.model import Config
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Link
from ganeti_vif.kernel import capture_filter, packets
from ganeti_vif.kernel.capture import Capture
from ganeti_vif.nic.announcement import arrival, departure
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.nic.word import signed
from ganeti_vif.system import log, ssconf
from ganeti_vif.system.node import Node


def has_way(nic: Nic, config: Config) -> bool:
    """Whether NIC is routed by a public link that is configured: on its uplink the other node hears of it."""
    return nic.mode is Mode.ROUTED and config.public_link(nic.link) is not None


def say_here(nic: Nic, config: Config, node: Node) -> Capture | None:
    """Tell the node that NIC's guest ran on that the guest runs here. Returns what captures the answer.

    If that cannot be done, it is logged and None is returned: the other node hears our announcement too, later.
    """
    uplink = _uplink(nic, config, node)
    if uplink and uplink.mac:
        try:
            answers = Capture(uplink.name, capture_filter.ETH_P_RARP, [bytes.fromhex(nic.mac.replace(":", ""))])
            word, key = arrival(nic.mac, uplink.mac), key_of_the_cluster()
            packets.send(uplink.name, [signed(word, key, nic.uuid, time.time_ns()) if key else word])
            return answers
        except Failure as failure:
            log.say(f"{nic.whom}: the node that it left is not told: {failure.what}", log.Level.ERROR)
    return None


def key_of_the_cluster() -> bytes | None:
    """The key with which the nodes of this cluster sign. None if there is none, or if it cannot be read, which is
    logged: then nothing is signed, and words are believed as docs/architecture.md says."""
    try:
        return ssconf.cluster_key()
    except Failure as failure:
        log.say(f"nothing is signed in migrations: {failure.what}", log.Level.ERROR)
        return None


def say_released(nic: Nic, config: Config, node: Node) -> None:
    """Tell the node that NIC's guest runs on that this node does not answer for it any more.

    If that cannot be done, it is logged: the other node waits for this, but not for long.
    """
    uplink = _uplink(nic, config, node)
    if uplink and uplink.mac:
        try:
            packets.send(uplink.name, [departure(nic.mac, uplink.mac)])
        except Failure as failure:
            log.say(f"{nic.whom}: the node that it is on is not told: {failure.what}", log.Level.ERROR)


def _uplink(nic: Nic, config: Config, node: Node) -> Link | None:
    public = config.public_link(nic.link)
    return node.link(public.uplink) if public else None
