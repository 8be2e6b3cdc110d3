# SPDX-License-Identifier: BSD-2-Clause
"""A configuration as text: the file and the profiles beside it, as they were read at one moment."""

from __future__ import annotations

import glob
import json
import os
from dataclasses import dataclass

from ganeti_vif.engine.failure import Failure

PATH = "/etc/ganeti-vif/ganeti-vif.conf"
SHIPPED = "/usr/share/ganeti-vif/ganeti-vif.conf"
PROFILES = "profiles.d"


@dataclass(frozen=True, slots=True)
class ProfileText:
    """The TEXT of the profile file at PATH. If it could not be read, TEXT is None and REASON says why."""

    path: str
    text: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """The TEXT of the configuration file at PATH, and the texts of its PROFILES."""

    path: str
    text: str
    profiles: tuple[ProfileText, ...] = ()


def read(path: str = PATH) -> Source:
    """The file at PATH, with the profiles beside it. Raises Failure if the file cannot be read."""
    try:
        with open(path, encoding="utf-8-sig") as file:  # some editors put a byte order mark before everything
            text = file.read()
    except FileNotFoundError as error:
        raise Failure(f"there is no configuration file {path}", _restore(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "it is no UTF-8 text"
        raise Failure(f"the configuration file {path} cannot be read: {reason}", f"see: ls -l {path}") from error
    found = sorted(glob.glob(f"{os.path.dirname(path)}/{PROFILES}/*.nft"))
    return Source(path=path, text=text, profiles=tuple(_profile(one) for one in found))


def _restore(path: str) -> str:
    """The command that restores the shipped file at PATH, or one that lists the files there. dpkg restores nothing: it
    assumes that somebody removed a missing conffile on purpose."""
    return f"install -D -m 644 {SHIPPED} {path}" if path == PATH else f"see: ls -l {os.path.dirname(path) or '.'}"


def _profile(path: str) -> ProfileText:
    try:
        with open(path, encoding="ascii") as file:
            return ProfileText(path=path, text=file.read())
    except UnicodeDecodeError:
        return ProfileText(path=path, text=None, reason="it is no plain text (ASCII)")
    except OSError as error:
        return ProfileText(path=path, text=None, reason=os.strerror(error.errno or 0))


def without_networks(source: Source) -> Source:
    """SOURCE without its sections [private ...] and [public ...]. A node works by that after a teardown."""
    kept, wanted = [], True
    for line in source.text.splitlines():
        if line.startswith("["):
            wanted = line[1:].split(None, 1)[0].rstrip("]") not in ("private", "public")
        kept.append(line if wanted else "")
    return Source(path=source.path, text="\n".join(kept), profiles=source.profiles)


def to_json(source: Source) -> str:
    """SOURCE as one JSON object."""
    profiles = [[one.path, one.text, one.reason] for one in source.profiles]
    return json.dumps({"path": source.path, "text": source.text, "profiles": profiles}, indent=1)


def from_json(text: str) -> Source:
    """The source in TEXT, written by to_json(). Raises ValueError if TEXT is damaged."""
    try:
        given = json.loads(text)
        profiles = tuple(ProfileText(str(path), text, str(reason)) for path, text, reason in given["profiles"])
        return Source(path=str(given["path"]), text=str(given["text"]), profiles=profiles)
    except (KeyError, TypeError) as error:
        raise ValueError(f"it lacks {error}") from error
