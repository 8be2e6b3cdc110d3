# SPDX-License-Identifier: BSD-2-Clause
"""What the daemon has to do, as data: the tasks of its timers, and the times that they keep."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from ganeti_vif.engine.objects import Address
from ganeti_vif.nic.life import Event
from ganeti_vif.nic.nic import Nic

AGAIN = (1.0, 2.0)
"""Seconds after an attach at which its announcement is repeated. A neighbour that heard of the address less than a
second before takes no notice (kernel doc ip-sysctl, neigh/default/locktime), and a frame may be lost."""
ROUNDS = (0.0, 2.0, 30.0)
"""Seconds after a change of an uplink at which all its NICs are announced: a frame may be lost, and a switch may take
30 s until a port that has come up forwards (IEEE 802.1D, twice the forward delay)."""
PERIOD = 60.0
"""Seconds between two surveys of the whole node when nothing is heard."""
CALM = 0.2
"""Seconds from a change to the work that it causes: changes come in bursts."""
AFTER_ROUTED = 0.05
"""Seconds by which a routed NIC comes before others when filters are gone: without its own filter it has no network."""
SHARE = 10
"""A survey that took t seconds is followed by at least SHARE * t without one: a busy node is not kept busier."""
LONGEST = 60.0
"""Seconds between two attempts to attach a NIC, at most. The first follows after one, then twice as many each time."""
EXPECTED = 0.1
"""Seconds between two searches for the taps of a guest that is on its way."""
HANDOVER = 0.1
"""Seconds from a guest's arrival to the answers of this node, if the node that it left does not say that it let go."""
LOOK = 0.2
"""Seconds that a running guest has to read what a look sends to its tap: its node may be busy. A target that signs
nothing waits for HANDOVER only, and both nodes answer for the rest of that time."""
BRAKE = 1.0
"""Seconds between two looks at one NIC, at least."""
PAUSE = 0.01
"""Seconds for which uplinks are not read after a word that nothing proves."""
HURRY = 1.0
"""Seconds of real-time priority after a signed word."""
TURN = 0.05
"""Seconds of work after which the daemon looks at signals and events again."""
NAMES = 0.5
"""Seconds from a change of a NIC to the update of its instance's name: the NICs of an instance come one by one."""
NAMES_AGAIN = 300.0
"""Seconds between two looks at all names."""
HELD = 0.01
"""Seconds until the daemon tries a lock again that somebody else has."""


@dataclass(frozen=True, slots=True)
class Happen:
    """EVENT happens to the NIC of TAP. NIC is that NIC where no record tells yet which one it is."""

    tap: str
    event: Event
    nic: Nic | None = None


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the neighbours where NIC lives, AFTER so many seconds. FIRST: nobody knows yet whether another machine has
    one of its addresses. ARRIVED: its guest came from another node, which may answer for it a moment longer."""

    nic: Nic
    after: float
    first: bool = False
    arrived: bool = False


@dataclass(frozen=True, slots=True)
class AnnounceAll:
    """Tell the neighbours of the public LINK where all its NICs live."""

    link: str


@dataclass(frozen=True, slots=True)
class Proceed:
    """Tell the neighbours of the public LINK where the next of its NICs lives."""

    link: str


@dataclass(frozen=True, slots=True)
class Defend:
    """Answer ARP probes again, of which there were too many."""


@dataclass(frozen=True, slots=True)
class Solicit:
    """Answer neighbour solicitations again, of which there were too many."""


@dataclass(frozen=True, slots=True)
class Admit:
    """The neighbours had their time to say whether they have an address of the new NIC of TAP."""

    tap: str


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Ask again who has the addresses that other machines have, too."""


@dataclass(frozen=True, slots=True)
class ListenAgain:
    """Read again what machines on the uplinks say of their addresses, of which there was too much."""


@dataclass(frozen=True, slots=True)
class Lead:
    """The guest of TAP announced ADDRESS, which it shares: from now on that leads to it."""

    tap: str
    address: Address


@dataclass(frozen=True, slots=True)
class LeadAway:
    """Somebody on the uplink announced ADDRESS, which leads to TAP: it does not any more."""

    tap: str
    address: Address


@dataclass(frozen=True, slots=True)
class Reconsider:
    """The neighbours had their time to say whether they have ADDRESS, which the guest of TAP shares."""

    tap: str
    address: Address


@dataclass(frozen=True, slots=True)
class RecallShared:
    """See where shared addresses lead, after a time in which nobody listened."""


@dataclass(frozen=True, slots=True)
class Share:
    """Make again what all NICs share: the public links, and what keeps private networks away from the node."""


@dataclass(frozen=True, slots=True)
class Survey:
    """Survey the whole node, and mend what is not as it should be."""


@dataclass(frozen=True, slots=True)
class Expect:
    """See whether the taps of a guest are here that is on its way."""


@dataclass(frozen=True, slots=True)
class SettleClaim:
    """The neighbours had their time to say whether they have the ADDRESS that the guest of TAP chose."""

    tap: str
    address: IPv6Address


@dataclass(frozen=True, slots=True)
class AgeClaims:
    """See which of the addresses that guests chose are still used. Only by the guest of TAP, if that is given."""

    tap: str = ""


@dataclass(frozen=True, slots=True)
class KeepNames:
    """Write the names of this node's instances that are not written yet."""


@dataclass(frozen=True, slots=True)
class Look:
    """Go on with the looks at guests of which somebody says that they run elsewhere."""


Task = (
    Happen
    | Announce
    | AnnounceAll
    | Proceed
    | Defend
    | Solicit
    | Admit
    | AskAgain
    | ListenAgain
    | Lead
    | LeadAway
    | Reconsider
    | RecallShared
    | Share
    | Survey
    | Expect
    | Look
    | SettleClaim
    | AgeClaims
    | KeepNames
)


def retry_after(attempts: int) -> float:
    """Seconds until a NIC is tried again that could not be attached so many times before."""
    return min(LONGEST, 2.0**attempts)
