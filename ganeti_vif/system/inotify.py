# SPDX-License-Identifier: BSD-2-Clause
"""Watching a directory (inotify(7)): which names in it were written, made, moved or removed.

The directory may be missing, appear later, or be replaced by another. While it is missing, its nearest existing
ancestor is watched. When it appears, everything counts as changed. The kernel sends no event for a change to the target
of a symbolic link, for a renamed ancestor, and for a file system that is mounted over the directory. So the caller
reads the directory at intervals too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

from ganeti_vif.engine.failure import Failure

IN_ATTRIB, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO = 0x4, 0x8, 0x40, 0x80
IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF = 0x100, 0x200, 0x400, 0x800
IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED = 0x2000, 0x4000, 0x8000
IN_ONLYDIR, IN_EXCL_UNLINK = 0x1000000, 0x4000000

_LEFT = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED
_OF_DIRECTORY = (
    IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
)
_OF_ANCESTOR = IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
_EVENT = struct.Struct("=iIII")
_RECEIVE = 1 << 16
_TRIES = 8
"""Attempts to watch a directory that appears and disappears meanwhile."""
_ROUNDS = 16
"""Reads in one call: a program that writes without end must not keep the daemon from its other work."""


class Watch:
    """A watch of DIRECTORY from now on. A context manager. Raises Failure if the kernel refuses a watch."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            reason = os.strerror(ctypes.get_errno())
            what = f"{directory} cannot be watched: {reason}"
            raise Failure(what, "note: raise the limit, sysctl fs.inotify.max_user_instances")
        self._watched = -1
        self.armed = False
        """Whether the directory itself is watched, and not an ancestor."""
        self._arm()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The file descriptor, which is readable when events wait."""
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self) -> frozenset[str] | None:
        """The names in the directory that changed since the last call. Does not wait.

        None means that everything may have changed: the directory came, went or was replaced, or events were lost. A
        name may not exist any more. Raises Failure if the kernel refuses a new watch.
        """
        names: set[str] = set()
        everything = False
        for watched, mask, name in self._events():
            if mask & IN_Q_OVERFLOW:
                everything = True
            elif watched != self._watched:
                continue  # of a former watch: events that still waited, and its IN_IGNORED
            elif mask & _LEFT or not self.armed:
                self._arm()
                everything = True
            else:
                names.add(name)
        return None if everything else frozenset(names)

    def _arm(self) -> None:
        """Watch the directory, or its nearest ancestor if it is missing. Raises Failure if the kernel refuses."""
        self._leave()
        for _ in range(_TRIES):
            self.armed = self._add(self._directory, _OF_DIRECTORY)
            if self.armed:
                return
            below, ancestor = self._directory, os.path.dirname(self._directory)
            while not self._add(ancestor, _OF_ANCESTOR) and ancestor != below:
                below, ancestor = ancestor, os.path.dirname(ancestor)
            # The directory may have appeared before the ancestor was watched, and then no event comes: look once more.
            if not os.path.isdir(below):
                return

    def _leave(self) -> None:
        if self._watched >= 0:
            self._libc.inotify_rm_watch(self._descriptor, self._watched)
            self._watched = -1

    def _add(self, path: str, mask: int) -> bool:
        """Watch PATH and nothing else. Returns False if PATH is missing or not readable."""
        found: int = self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask | IN_EXCL_UNLINK)
        if found < 0:
            error = ctypes.get_errno()
            if error in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                return False
            what = f"{path} cannot be watched: {os.strerror(error)}"
            raise Failure(what, "note: raise the limit, sysctl fs.inotify.max_user_watches")
        if found != self._watched:
            self._leave()
        self._watched = found
        return True

    def _events(self) -> Iterator[tuple[int, int, str]]:
        """The watch, the mask and the name of each event that waits."""
        for _ in range(_ROUNDS):
            try:
                data = os.read(self._descriptor, _RECEIVE)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                watched, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size + length
                yield watched, mask, os.fsdecode(data[at - length : at].rstrip(b"\0"))
