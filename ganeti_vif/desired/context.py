# SPDX-License-Identifier: BSD-2-Clause
"""What a NIC's needs depend on, on the node around it."""

from __future__ import annotations

from dataclasses import dataclass

from ganeti_vif.config.model import Private, Profile, Public
from ganeti_vif.engine.objects import Link, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The node as one NIC sees it. A missing thing is None: for a NIC that goes away that is no trouble."""

    tap: Link | None = None
    bridge: Link | None = None
    configured: bool = False
    """Whether its bridge is one of a configured family."""
    family: Private | None = None
    """The family of private networks whose prefix its bridge has, whether it is one of them or not."""
    trunks: tuple[str, ...] = ()
    public: Public | None = None
    uplink: Link | None = None
    table: int | None = None
    switch: bool = False
    any_link_local: bool = False
    overlapping: tuple[Route, ...] = ()
    profile: Profile | None = None
    force_forwarding: bool = False
    advertised: frozenset[str] = frozenset()
