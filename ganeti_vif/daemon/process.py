# SPDX-License-Identifier: BSD-2-Clause
"""The daemon `ganeti-vifd`: the process, its signals, and what it listens to. What it does is in daemon/loop.py.

It takes the same locks as every door, and who finds it missing or hanging does the work itself: killed at any moment,
it is only missing.
"""

from __future__ import annotations

import argparse
import gc
import select
import signal
import socket
import sys
from contextlib import ExitStack

import daemon

from ganeti_vif.cli.configuration import tell_daemons
from ganeti_vif.cli.flags import add_common
from ganeti_vif.daemon.loop import Loop
from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel.netlink import changes as netlink
from ganeti_vif.kernel.netlink.events import Changed, Event, Events
from ganeti_vif.kernel.nftables import changes as nftables
from ganeti_vif.reconcile.in_force import InForce, in_force, put_in_force
from ganeti_vif.system import lock, log, ssconf, systemd
from ganeti_vif.system.claim_socket import ClaimSocket
from ganeti_vif.system.complaint import complain, needs_root
from ganeti_vif.system.control import Control
from ganeti_vif.system.inotify import Watch
from ganeti_vif.system.node import Node

LOADED = (netlink, nftables)
"""What changes things is loaded when the daemon starts, and not when the first tap goes away."""
PERIOD = 60.0
"""Seconds after which it turns round although there is nothing to do."""

SUCCESSION = 2.0
"""Seconds for the lock of a predecessor that was killed: a process that it had forked soon lets go of it."""


def serve(known: InForce, path: str, signals: socket.socket, *, verbose: bool = False) -> None:
    """Until SIGTERM or SIGINT. SIGNALS gives the number of each signal as a byte; PATH is the configuration's."""
    with Events() as events, Control() as control, ClaimSocket() as claims, Node() as node, ExitStack() as stack:
        loop = Loop(known, node, claims)
        log.verbose = verbose or known.config.verbose
        bindings, cluster = _watches(known, stack)
        systemd.notify("READY=1")
        while True:
            poll = select.poll()
            watched = (one.fileno() for one in (bindings, *cluster))
            sockets = (one.fileno() for one in (signals, *events.sockets))
            for descriptor in (*sockets, *watched, *control.descriptors(), *loop.descriptors):
                poll.register(descriptor, select.POLLIN)
            poll.poll(1000 * min(loop.patience(), control.patience(), (systemd.watchdog_seconds() or PERIOD) / 2))
            systemd.notify("WATCHDOG=1")
            numbers = _waiting(signals)
            if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                systemd.notify("STOPPING=1")
                return
            latest = _latest(known, path, asked=signal.SIGHUP in numbers)
            if latest is not known:
                known = latest
                loop.configure(known)
                log.verbose = verbose or known.config.verbose
                stack.close()
                bindings, cluster = _watches(known, stack)
            for event in (*events.read(), *_changes(bindings), *_nodes(cluster)):
                loop.hear(event)
            for question in control.questions():
                loop.ask(question)
            loop.work()


def _latest(known: InForce, path: str, *, asked: bool) -> InForce:
    """The configuration in force: KNOWN, or the one that another process has put in force since. If ASKED, put the
    file at PATH in force first. A configuration that cannot be read is logged, and KNOWN stays."""
    try:
        if not asked and not known.is_old():
            return known
        latest = put_in_force(path) if asked else in_force(path)
    except Failure as failure:
        log.say(f"the old configuration stays in force: {failure.what}", log.Level.ERROR)
        return known.kept()  # said once, and not at every turn
    log.say("configuration read again")
    return latest


def _first(path: str) -> InForce:
    """The configuration to start with: the file's. A mistake in it does not cost a running node its daemon: then what
    was in force stays so. Raises Failure if nothing was."""
    try:
        return put_in_force(path)
    except Failure as failure:
        known = in_force(path)
        log.say(f"the old configuration stays in force: {failure.what}", log.Level.ERROR)
        return known


def _changes(bindings: Watch) -> list[Event]:
    """Bindings have the names of their taps."""
    names = bindings.read()
    return [Changed(None)] if names is None else [Changed(name) for name in names]


def _watches(known: InForce, stack: ExitStack) -> tuple[Watch, list[Watch]]:
    """The directory of the bindings, and Ganeti's if the tunnels of this node lead to the cluster's nodes."""
    bindings = stack.enter_context(Watch(known.config.bindings.directory))
    cluster = [ssconf.DIRECTORY] if known.config.follows_cluster else []
    return bindings, [stack.enter_context(Watch(directory)) for directory in cluster]


def _nodes(cluster: list[Watch]) -> list[Event]:
    """Few of Ganeti's files matter here. Those that do need a look at all tunnels."""
    changed = [watch.read() for watch in cluster]
    return [Changed(None)] if any(names is None or names & ssconf.OF_UNDERLAY for names in changed) else []


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
        if given.reload:
            put_in_force(given.config)
            tell_daemons()
            return 0
        in_force(given.config)  # if there is none, the failure is printed while there still is a terminal
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        with _context(given.foreground, ours, theirs), lock.held("vifd", wait=SUCCESSION):
            gc.freeze()  # what is loaded stays: the garbage collector need not look at it each time
            signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, lambda *_: None)
            # Under the lock: a second daemon, which ends at it, must not put an edit in force for the first.
            serve(_first(given.config), given.config, ours, verbose=given.verbose)
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
    add_common(top)
    top.add_argument("--reload", action="store_true", help="have the daemon that runs work by the file, and end")
    top.add_argument("--verbose", action="store_true", help="log each step in the life of each NIC")
    top.add_argument("--foreground", action="store_true", help="do not detach, as systemd wants it")
    return top
