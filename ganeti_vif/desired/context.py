# SPDX-License-Identifier: BSD-2-Clause
"""What the needs of a NIC depend on, on the node around it."""

from __future__ import annotations

from dataclasses import dataclass

from ganeti_vif.config.limits import Limits
from ganeti_vif.config.model import Private, Profile, Public
from ganeti_vif.engine.objects import Address, Link, Route
from ganeti_vif.guard.connections import Following


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The node as one NIC sees it. A missing object is None: for a NIC that goes away that is no failure."""

    tap: Link | None = None
    bridge: Link | None = None
    configured: bool = False
    """Whether the NIC's bridge is one of a configured family."""
    family: Private | None = None
    """The family of private networks with the prefix of the NIC's bridge, even if the bridge is not in its ranges."""
    trunks: tuple[str, ...] = ()
    public: Public | None = None
    uplink: Link | None = None
    table: int | None = None
    switch: bool = False
    any_link_local: bool = False
    overlapping: tuple[Route, ...] = ()
    profile: Profile | None = None
    following: Following = Following()
    force_forwarding: bool = False
    advertised: frozenset[str] = frozenset()
    limits: Limits = Limits()
    """The NIC's limits, by its tags and the configuration (guard/limits.py)."""
    ipv6: bool = True
    """Whether the node's kernel has IPv6."""
    own: frozenset[Address] = frozenset()
    """The node's own addresses that a tag could give to the NIC's guest: all, or those of its bridge."""
