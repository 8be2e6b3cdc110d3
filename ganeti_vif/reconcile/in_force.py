# SPDX-License-Identifier: BSD-2-Clause
"""Which configuration this node works by, and who may change that.

An administrator edits the file in /etc, and it may be half done at any moment. The daemon, the responder, Ganeti's
script and its hooks work by the configuration in force. It is a copy of that file, and somebody takes it explicitly
(`setup` and `reconcile`, a start or reload of the daemon). There is one copy, /run/ganeti-vif/configuration.json, and
the holder of the lock `node` owns it. So no program changes a node to an older configuration than the others use.

    edit the file     nothing changes; check, status and doctor say that it is not in force
    put_in_force()    the copy is replaced; from here on everybody works by it
    dies here         the daemon makes the node what the copy says

After a boot or in a fresh package no copy exists yet. Until the first copy the file itself counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ganeti_vif.config import parse, source
from ganeti_vif.config.model import Config
from ganeti_vif.config.source import Source
from ganeti_vif.engine.failure import Failure
from ganeti_vif.system import in_force as copy


@dataclass(frozen=True, slots=True)
class InForce:
    """CONFIG, and the STAMP of the copy it was read from. STAMP is None if CONFIG was read from the file itself."""

    config: Config
    stamp: copy.Stamp

    def is_old(self) -> bool:
        """Whether another configuration was put in force since. Raises Failure if the copy cannot be looked at."""
        return copy.stamp() != self.stamp

    def kept(self) -> InForce:
        """The same CONFIG with the stamp of the present copy: for a caller that cannot use that copy."""
        stamp = copy.stamp()
        return self if stamp == self.stamp else replace(self, stamp=stamp)


def in_force(path: str = source.PATH) -> InForce:
    """The configuration in force. If the copy was taken of another file than PATH, the file at PATH counts.

    Raises Failure if the configuration cannot be read, or is wrong.
    """
    stamp = copy.stamp()  # before the text: if somebody replaces the copy in between, is_old() says so
    known = _copy()
    if known is None or known.path != path:
        return InForce(parse.load(path), stamp)
    return InForce(parse.config_of(known), stamp)


def put_in_force(path: str = source.PATH) -> InForce:
    """Put the file at PATH in force for all programs, and return its configuration.

    Raises Failure if the file cannot be read or is wrong. The old configuration then stays in force. If the caller
    changes the node's networks afterwards, it takes the lock `node` before this call.
    """
    given = source.read(path)
    config = parse.config_of(given)
    return _put(given, config)


def source_in_force() -> Source | None:
    """The text of the configuration in force. None if none is. Raises Failure if the copy is damaged or unreadable."""
    return _copy()


def put_down(path: str = source.PATH) -> InForce:
    """Put the configuration in force again without its private networks and public links.

    Raises Failure if it cannot be read, is wrong, or cannot be written. The caller holds the lock `node`.
    """
    known = _copy()
    given = source.without_networks(known if known and known.path == path else source.read(path))
    return _put(given, parse.config_of(given))


def _put(given: Source, config: Config) -> InForce:
    text = source.to_json(given)
    if text != copy.read():  # the same text keeps its stamp, so that nobody reads it again
        copy.write(text, like=given.path)
    return InForce(config, copy.stamp())


def unapplied(path: str = source.PATH) -> Failure | None:
    """Why the file at PATH is not in force. None if it is in force, or if nothing is in force.

    A change of comments only does not count. Raises Failure if the copy is damaged or cannot be read.
    """
    known = _copy()
    if known is None:
        return None
    if known.path != path:
        return Failure(f"{known.path} is in force, and not {path}", f"ganeti-vif --config {path} setup")
    try:
        given = source.read(path)
        if given == known or parse.config_of(given) == parse.config_of(known):
            return None
        if known.text == source.without_networks(given).text:
            return Failure(f"the networks of {path} were torn down, and nobody makes them again", "ganeti-vif setup")
    except Failure as failure:
        return Failure(f"{failure.what}; the configuration before that change stays in force", failure.do)
    return Failure(
        f"{path} was changed, and the change is not in force yet", "ganeti-vif setup --dry-run && ganeti-vif setup"
    )


def _copy() -> Source | None:
    """The copy in force, or None if there is none. Raises Failure if it is damaged or cannot be read."""
    text = copy.read()
    try:
        return source.from_json(text) if text is not None else None
    except ValueError as error:
        what = f"{copy.PATH} is damaged: {error}"
        raise Failure(what, f"rm {copy.PATH} && ganeti-vif setup") from error
