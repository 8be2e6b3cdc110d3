# SPDX-License-Identifier: BSD-2-Clause
"""The daemon `ganeti-vif-responder`: gives guests the addresses of their bindings.

It reads bindings, and receives and sends frames at taps. It writes nothing but its own state. So it does not run as
root, and its only capability is to open packet sockets.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import sys

import daemon

from ganeti_vif.cli.flags import add_common
from ganeti_vif.config.model import Config
from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel import privileges
from ganeti_vif.reconcile.in_force import InForce, in_force
from ganeti_vif.responder.server.loop import Serving
from ganeti_vif.system import lock, log, state_socket
from ganeti_vif.system.complaint import complain

USER = "ganeti-vif-responder"
OPEN_FILES = 65536
"""One for each tap, and some more."""


class _Orders:
    """The responder's orders: its configuration, and the end after SIGTERM or SIGINT.

    After SIGINT a successor starts at once (an upgrade), so guests get no farewell and keep their IPv6 router.
    """

    def __init__(self, path: str, known: InForce, signals: socket.socket) -> None:
        self._path, self._known, self._signals = path, known, signals
        self._refused = ""
        self.succeeded = False

    def obey(self) -> Config | None:
        """The configuration to go on with, or None to end. Called after a signal."""
        numbers = self._signals.recv(256)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self.succeeded = signal.SIGTERM not in numbers
            return None
        return self._read() if signal.SIGHUP in numbers else self.config()

    def config(self) -> Config:
        """The configuration in force."""
        try:
            if not self._known.is_old():
                return self._known.config
        except Failure as failure:
            return self._keep(failure)
        return self._read()

    def _read(self) -> Config:
        try:
            self._known = in_force(self._path)
        except Failure as failure:
            return self._keep(failure)
        log.say("responder: configuration read again")
        return self._known.config

    def _keep(self, failure: Failure) -> Config:
        if self._refused != failure.what:
            log.say(f"responder: the old configuration stays in force: {failure.what}", log.Level.ERROR)
        self._refused = failure.what
        return self._known.config


def main(arguments: list[str]) -> int:
    """Run the daemon. Returns the exit status."""
    given = parser().parse_args(arguments)
    try:
        known = in_force(given.config)
        if os.geteuid() == 0:
            privileges.account_of(given.user)  # its error must come while there is a terminal
        privileges.raise_open_files(OPEN_FILES)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        with _context(given.foreground, ours, theirs):
            log.last_resort = sys.stderr if given.foreground else None
            _become(given.user)
            with lock.held("responder", wait=0.0, directory=state_socket.DIRECTORY):
                _run(given.config, known, ours, theirs)
    except Failure as failure:
        complain(failure)
        return 1
    return 0


def _run(path: str, known: InForce, ours: socket.socket, theirs: socket.socket) -> None:
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    serving = Serving(known.config, ours)
    gc.freeze()  # these objects stay; a garbage collection of them would delay guests
    orders = _Orders(path, known, ours)
    try:
        serving.serve(orders)
    finally:
        serving.close(farewell=not orders.succeeded)


def _become(user: str) -> None:
    """Give up root for USER. Without root there is nothing to give up: the service manager has done it.

    Raises Failure if USER does not exist or the kernel refuses.
    """
    if os.geteuid() != 0:
        return
    account = privileges.account_of(user)
    state_socket.make_directory(account.pw_uid, account.pw_gid)
    if account.pw_uid:
        privileges.become(user)


def _context(foreground: bool, *kept: socket.socket) -> daemon.DaemonContext:
    output = {"stdout": sys.stdout, "stderr": sys.stderr} if foreground else {}
    return daemon.DaemonContext(detach_process=not foreground, umask=0o022, files_preserve=list(kept), **output)


def parser() -> argparse.ArgumentParser:
    """The command line, complete with its help."""
    top = argparse.ArgumentParser(
        prog="ganeti-vif-responder", description="Answers the DHCP and IPv6 requests of a Ganeti node's guests."
    )
    add_common(top)
    top.add_argument("--foreground", action="store_true", help="do not detach, as systemd wants it")
    top.add_argument("--user", default=USER, help="whom to become when started by root (default: %(default)s)")
    return top
