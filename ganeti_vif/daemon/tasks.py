"""What the daemon has to do, as data: tasks of its agenda, and the times that they keep."""

from __future__ import annotations

from dataclasses import dataclass

from ganeti_vif.nic.nic import Nic

AGAIN = (1.0, 2.0)
"""Seconds after an attach at which its announcement is repeated: a neighbour that heard of the address less than a
second before takes no notice (kernel doc ip-sysctl, neigh/default/locktime), and a frame may be lost."""
PERIOD = 60.0
"""Seconds between two looks at the whole node when nothing is heard."""
CALM = 0.2
"""Seconds from a change to the look that it causes: changes come in bursts."""
AFTER_ROUTED = 0.05
"""Seconds by which a routed NIC is before others when their filters are gone: without its own it has no network."""
SHARE = 10
"""A look that took t seconds is followed by at least SHARE * t without one, so that a busy node is not kept busier."""
LONGEST = 60.0
"""Seconds between two attempts to attach a NIC, at most; the first follows after one, then twice as many each time."""
EXPECTED = 0.1
"""Seconds between two looks for the taps of a guest that is on its way."""
HANDOVER = 0.1
"""Seconds from a guest's arrival to the answers of this node, if the node that it left does not say that it let go."""
TURN = 0.05
"""Seconds of work after which signals and events are looked at."""
HELD = 0.01
"""Seconds until a lock that somebody else has is tried again."""


@dataclass(frozen=True, slots=True)
class Tend:
    """See that the NIC of TAP has what it needs; or, if its tap is gone, that it leaves nothing behind."""

    tap: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the neighbours where NIC lives, AFTER so many seconds."""

    nic: Nic
    after: float


@dataclass(frozen=True, slots=True)
class Share:
    """Make again what all NICs share: the public links, and what keeps private networks off the node."""


@dataclass(frozen=True, slots=True)
class Look:
    """Look at the whole node, and mend what is not as it should be."""


@dataclass(frozen=True, slots=True)
class Expect:
    """See whether the taps of a guest are here that is on its way."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make ready for the guest of NIC, whose tap is here."""

    nic: Nic


@dataclass(frozen=True, slots=True)
class Claim:
    """The guest behind TAP runs here, and another node may still answer for it."""

    tap: str


@dataclass(frozen=True, slots=True)
class Move:
    """The guest behind TAP is HERE now, or elsewhere."""

    tap: str
    here: bool


Task = Tend | Announce | Share | Look | Expect | Prepare | Claim | Move
