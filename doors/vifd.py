"""The daemon `ganeti-vifd`: keeps the node what it should be while taps go away and others change things.

A tap that goes away is cleared at once. After any other change that may concern us, at its start, on SIGHUP and every
minute, it reconciles. It takes the same locks as every door, so an attach and a reconcile never meet.
"""

from __future__ import annotations

import argparse
import select
import signal
import socket
import sys
import time

import daemon

from config import parse
from config.model import Config
from doors.vif_script import announce, complain, needs_root
from engine.failure import Failure
from engine.words import finding
from node import whole
from outside import lock, log, netlink, nftables, records, systemd
from outside.events import Events, Gone
from outside.node import Node
from vif.attach import detach, recorded
from vif.nic import Mode, Nic

LOADED = (netlink, nftables)
"""What changes things is loaded when the daemon starts, and not when the first tap goes away."""

AGAIN = (1.0, 2.0)
"""Seconds after an attach at which its announcement is repeated: a neighbour that heard of the address less than a
second before takes no notice (kernel doc ip-sysctl, neigh/default/locktime), and a frame may be lost."""

PERIOD = 60.0
"""Seconds between two looks at the whole node when nothing is heard."""
CALM = 0.2
"""Seconds from a change to the look that it causes: changes come in bursts."""
SHARE = 10
"""A look that took t seconds is followed by at least SHARE * t without one, so that a busy node is not kept busier."""


class Vifd:
    """The daemon's state: its configuration, and when it looks at the node next."""

    def __init__(self, config: Config, path: str) -> None:
        self._config, self._path = config, path
        self._due = self._earliest = time.monotonic()
        self._said: frozenset[str] = frozenset()
        self._announcements: dict[tuple[str, int, float], tuple[float, Nic]] = {}

    def serve(self, signals: socket.socket) -> None:
        """Until SIGTERM or SIGINT. SIGNALS gives the number of each signal as a byte."""
        with Events() as events:
            poll = select.poll()
            for one in (signals, *events.sockets):
                poll.register(one, select.POLLIN)
            systemd.notify("READY=1")
            while True:
                poll.poll(self._patience() * 1000)
                systemd.notify("WATCHDOG=1")
                if not self._obey(_waiting(signals)):
                    return
                for event in events.read():
                    if isinstance(event, Gone):
                        self._forget(event)
                    else:
                        self._due = min(self._due, max(time.monotonic() + CALM, self._earliest))
                if time.monotonic() >= self._due:
                    self._reconcile()
                self._announce()

    def _patience(self) -> float:
        watched = systemd.watchdog_seconds()
        due = min([self._due, *(when for when, _ in self._announcements.values())])
        return max(0.0, min(due - time.monotonic(), watched / 2 if watched else PERIOD))

    def _obey(self, numbers: bytes) -> bool:
        """Do what the signals want. Returns whether to go on."""
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            systemd.notify("STOPPING=1")
            return False
        if signal.SIGHUP in numbers:
            try:
                self._config = parse.load(self._path)
                log.say("configuration read again")
            except Failure as failure:
                log.say(f"the old configuration stays in force: {failure.what}", log.Level.ERROR)
            self._due = time.monotonic()
        return True

    def _forget(self, gone: Gone) -> None:
        """Clear what the NIC of a tap that is gone leaves behind, if it was ours."""
        try:
            with lock.held("nics"), Node() as node:
                nic = recorded(gone.name)
                if nic and nic.index == gone.index:
                    changes = detach(nic, self._config, node)
                    log.say(f"{nic.whom}: its tap is gone, {len(changes)} leftovers removed; NIC {nic.uuid}")
        except Failure as failure:
            log.say(failure.what, log.Level.ERROR)
            self._due = min(self._due, time.monotonic() + CALM)

    def _reconcile(self) -> None:
        """Make the node what it should be. What cannot be is said once, and again when it is another thing."""
        began = time.monotonic()
        try:
            with lock.held("node"), lock.held("nics"), Node() as node:
                found = whole.reconcile(self._config, node)
            for change in found.changes:
                log.say(f"repaired: {finding(change)}", log.Level.WARNING)
            self._complain(frozenset(failure.what for failure in found.trouble))
            self._remember(found.nics)
        except Failure as failure:
            self._complain(frozenset({failure.what}))
        now = time.monotonic()
        self._due, self._earliest = now + PERIOD, now + SHARE * (now - began)

    def _remember(self, nics: list[Nic]) -> None:
        """Plan the repeated announcements of NICS that were attached a moment ago."""
        now = time.monotonic()
        for nic in nics:
            age = records.age(nic.tap) if nic.mode is Mode.ROUTED else AGAIN[-1]
            for after in AGAIN:
                if age < after:
                    self._announcements.setdefault((nic.tap, nic.index, after), (now + after - age, nic))

    def _announce(self) -> None:
        """Repeat the announcements that are due, of NICs whose taps still live."""
        due = [key for key, (when, _) in self._announcements.items() if when <= time.monotonic()]
        for key in due:
            _, nic = self._announcements.pop(key)
            with Node() as node:
                tap = node.devices([nic.tap]).by_name.get(nic.tap)
                if tap and tap.index == nic.index:
                    announce(nic, self._config, node)

    def _complain(self, trouble: frozenset[str]) -> None:
        for what in sorted(trouble - self._said):
            log.say(what, log.Level.ERROR)
        self._said = trouble


def _waiting(signals: socket.socket) -> bytes:
    try:
        return signals.recv(256)
    except BlockingIOError:
        return b""


def main(arguments: list[str]) -> int:
    """Run the daemon. Returns the exit status."""
    given = parser().parse_args(arguments)
    try:
        needs_root()
        config = parse.load(given.config)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        with _context(given.foreground, ours, theirs), lock.held("vifd", wait=0.0):
            signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, lambda *_: None)
            Vifd(config, given.config).serve(ours)
    except Failure as failure:
        complain(failure)
        return 1
    return 0


def _context(foreground: bool, *kept: socket.socket) -> daemon.DaemonContext:
    """In the foreground the service manager has our output and our pid. Else the pid is in the lock
    /run/ganeti-vif/vifd.lock: a pid file of the usual kind outlives a kill -9 and keeps its successor from starting."""
    output = {"stdout": sys.stdout, "stderr": sys.stderr} if foreground else {}
    return daemon.DaemonContext(detach_process=not foreground, umask=0o022, files_preserve=list(kept), **output)


def parser() -> argparse.ArgumentParser:
    """The command line, complete with its help."""
    top = argparse.ArgumentParser(prog="ganeti-vifd", description="Keeps the networks of a Ganeti node in step.")
    top.add_argument("--config", default=parse.PATH, metavar="FILE", help="configuration file (default: %(default)s)")
    top.add_argument("--foreground", action="store_true", help="do not detach, as systemd wants it")
    return top
