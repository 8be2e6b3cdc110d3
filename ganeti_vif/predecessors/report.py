# SPDX-License-Identifier: BSD-2-Clause
"""The report on each setting that was found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Fate(Enum):
    """The result for a setting."""

    TAKEN = "taken over"
    NEEDLESS = "not needed"
    LOST = "no counterpart"
    UNREAD = "not understood"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """The result for the setting at PLACE (file:line), and the reason."""

    place: str
    fate: Fate
    what: str

    @property
    def grave(self) -> bool:
        """Whether the administrator must look at it, because a setting is lost."""
        return self.fate in (Fate.LOST, Fate.UNREAD)
