# SPDX-License-Identifier: BSD-2-Clause
"""Whether a guest runs here of which somebody says that it runs elsewhere, without a proof.

A look sends frames to the guest's tap, and sees in the tap's counters whether they are read. A guest that is stopped or
has moved reads nothing. Its QEMU reads one frame more for each of its queues, and then waits for the guest (qemu
net/tap.c, tap_send()).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from ganeti_vif.daemon.tasks import BRAKE, LOOK
from ganeti_vif.engine.failure import Failure
from ganeti_vif.guard.protocols import EXPERIMENTAL
from ganeti_vif.kernel import packets
from ganeti_vif.kernel.netlink.traffic import Traffic
from ganeti_vif.nic.nic import Nic
from ganeti_vif.system import log
from ganeti_vif.system.node import Node

FRAMES, ENOUGH = 16, 12
"""How many frames a look sends, and how many of them a guest reads that runs. A stopped QEMU reads one for each of its
queues, at most 8 (ganeti lib/hypervisor/hv_kvm/__init__.py, virtio_net_queues)."""


@dataclass(slots=True)
class _Look:
    """A look at the guest of NIC, which goes on AT that moment. BEFORE is the traffic of the tap when it began. DOUBT
    says for what: whether a guest is still here, or is here again. AGAIN: there was a new doubt since it began."""

    nic: Nic
    at: float
    doubt: bool
    before: Traffic | None = None
    again: bool = False


class SecondLook:
    """The looks that are planned or under way: at each NIC one, and one in BRAKE seconds."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._looks: dict[str, _Look] = {}
        self._last: dict[str, float] = {}

    def want(self, nic: Nic, now: float, *, doubt: bool) -> None:
        """Look at the guest of NIC, as soon as the brake permits. If there is a DOUBT, it is whether it is still here,
        and else whether it is here again."""
        look = self._looks.get(nic.tap)
        if look and look.nic.index == nic.index:
            look.again = doubt and look.before is not None
            look.doubt = doubt
        else:
            at = max(now, self._last.get(nic.tap, 0.0) + BRAKE)
            self._looks[nic.tap] = _Look(nic, at, doubt)

    def forget(self, tap: str) -> None:
        """What the guest of TAP does does not matter any more."""
        self._looks.pop(tap, None)
        self._last.pop(tap, None)

    @property
    def due(self) -> list[float]:
        """When to go on."""
        return [look.at for look in self._looks.values()]

    def go_on(self, now: float) -> Iterator[tuple[str, bool]]:
        """Begin and end the looks that are due. For each that ends and says something new: the tap, and whether its
        guest runs here."""
        for tap, look in list(self._looks.items()):
            if look.at > now:
                continue
            seen = self._traffic(look.nic)
            if seen is not None and look.before is None:
                self._last[tap] = now
                with suppress(Failure):  # a tap that takes nothing: that is what the counters will say
                    packets.send(tap, [_frame(look.nic.mac)] * FRAMES, waits=False)  # not for a guest at its rate
                look.before, look.at = seen, now + LOOK
                continue
            del self._looks[tap]
            if seen is None or look.before is None:
                continue
            if runs(look.before, seen) is not look.doubt:
                yield tap, not look.doubt
            elif look.again:
                self.want(look.nic, now, doubt=True)

    def _traffic(self, nic: Nic) -> Traffic | None:
        try:
            return self._node.traffic(nic.index)
        except Failure as failure:
            log.say(f"{nic.whom}: not known whether its guest runs here: {failure.what}", log.Level.WARNING)
            return None


def runs(before: Traffic, after: Traffic) -> bool:
    """Whether a guest runs whose tap had this traffic BEFORE and AFTER a look."""
    return after.sent > before.sent or after.read - before.read >= ENOUGH


def _frame(mac: str) -> bytes:
    guest = bytes.fromhex(mac.replace(":", ""))
    return (guest + b"\xfe" + guest[1:] + EXPERIMENTAL.to_bytes(2, "big")).ljust(60, b"\0")
