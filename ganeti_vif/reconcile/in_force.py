# SPDX-License-Identifier: BSD-2-Clause
"""Which configuration this node works by, and who may change that.

The file in /etc is what an administrator edits, and may be half done at any moment. What the daemon, the responder,
Ganeti's script and its hooks work by is the configuration in force: a copy of that file, taken when somebody said so
(`setup` and `reconcile`, a start or reload of the daemon). It lies in one place, /run/ganeti-vif/configuration.json,
and is owned by whoever holds the lock `node`: so nobody makes a node what another one's older configuration says.

    edit the file     nothing changes; check, status and doctor say that it is not in force
    put_in_force()    the copy is replaced; from here on everybody works by it
    dies here         the daemon makes the node what the copy says

Nothing is in force before the first of them (a boot, a fresh package): then the file itself counts.
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
    """A CONFIG, and the STAMP of the copy that it was made of; None if it was made of the file itself."""

    config: Config
    stamp: copy.Stamp

    def is_old(self) -> bool:
        """Whether another configuration was put in force since. Raises Failure if that cannot be found out."""
        return copy.stamp() != self.stamp

    def kept(self) -> InForce:
        """The same CONFIG, kept although the copy that is there now cannot be used."""
        stamp = copy.stamp()
        return self if stamp == self.stamp else replace(self, stamp=stamp)


def in_force(path: str = source.PATH) -> InForce:
    """The configuration in force. A copy of another file than PATH is not meant: then the file at PATH counts.

    Raises Failure if it cannot be read, or is wrong.
    """
    stamp = copy.stamp()  # before the text: if that is replaced meanwhile, is_old() says so
    known = _copy()
    if known is None or known.path != path:
        return InForce(parse.load(path), stamp)
    return InForce(parse.config_of(known), stamp)


def put_in_force(path: str = source.PATH) -> InForce:
    """Let everybody work by the file at PATH from now on, and return what it says.

    Raises Failure if the file is wrong; what was in force stays in force then. Whoever changes the node's networks
    after it holds the lock `node` before it.
    """
    given = source.read(path)
    config = parse.config_of(given)
    return _put(given, config)


def put_down(path: str = source.PATH) -> InForce:
    """Let everybody work by the configuration in force without its private networks and public links.

    Raises Failure. The caller holds the lock `node`.
    """
    known = _copy()
    given = source.without_networks(known if known and known.path == path else source.read(path))
    return _put(given, parse.config_of(given))


def _put(given: Source, config: Config) -> InForce:
    text = source.to_json(given)
    if text != copy.read():  # the same again is no news: nobody has to read it
        copy.write(text, like=given.path)
    return InForce(config, copy.stamp())


def unapplied(path: str = source.PATH) -> Failure | None:
    """Why the file at PATH is not what is in force, or None if it is, or if nothing is in force.

    A comment more is no difference.
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
    """What lies in the one place, or None. Raises Failure."""
    text = copy.read()
    try:
        return source.from_json(text) if text is not None else None
    except ValueError as error:
        what = f"{copy.PATH} is damaged: {error}"
        raise Failure(what, f"rm {copy.PATH} && ganeti-vif setup") from error
