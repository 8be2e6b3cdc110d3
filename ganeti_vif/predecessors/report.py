# SPDX-License-Identifier: BSD-2-Clause
"""What is told of each setting that was found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Fate(Enum):
    """What becomes of a setting."""

    TAKEN = "taken over"
    NEEDLESS = "not needed"
    LOST = "no counterpart"
    UNREAD = "not understood"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What becomes of the setting at PLACE (file:line), and why."""

    place: str
    fate: Fate
    what: str

    @property
    def grave(self) -> bool:
        """Whether somebody has to look at it: something that was set is not there any more."""
        return self.fate in (Fate.LOST, Fate.UNREAD)
