# SPDX-License-Identifier: BSD-2-Clause
"""The trial of a configuration on disk, /var/lib/ganeti-vif/trial.json, and the files that a trial gives back.

A reboot keeps the trial. So a node that its administrator switched off and on, because the tried configuration cut
it off, comes back with the configuration before.
"""

from __future__ import annotations

import os
import stat

from ganeti_vif.config.trial import TRIED, Restored, Trial, trial_of
from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel import sysctl
from ganeti_vif.system.whole_file import settle

DIRECTORY = "/var/lib/ganeti-vif"
PATH = f"{DIRECTORY}/trial.json"


def boot() -> str:
    """The identity of this boot (random(4), boot_id). Empty if the kernel does not tell it."""
    return sysctl.value("kernel/random/boot_id") or ""


def read() -> Trial | None:
    """The trial that runs, or None. Raises Failure if it cannot be read."""
    try:
        with open(PATH, encoding="utf-8") as file:
            return trial_of(file.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"{PATH} cannot be read: {os.strerror(error.errno or 0)}", f"see: ls -l {PATH}") from error
    except ValueError as error:
        raise Failure(f"{PATH} is damaged: {error}", f"rm {PATH} && ganeti-vif setup") from error


def write(trial: Trial) -> None:
    """Put TRIAL on disk. Raises Failure if that fails."""
    try:
        os.makedirs(DIRECTORY, mode=0o755, exist_ok=True)
        _replace(PATH, trial.to_json().encode(), like=None)
    except OSError as error:
        raise Failure(f"{PATH} cannot be written: {os.strerror(error.errno or 0)}", f"df {DIRECTORY}") from error


def remove() -> None:
    """End the trial on disk. Raises Failure if that fails."""
    try:
        os.unlink(PATH)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Failure(f"{PATH} cannot be removed: {os.strerror(error.errno or 0)}", f"rm {PATH}") from error


def give_back(file: Restored) -> None:
    """Write FILE as it was before the trial. Its present text is kept beside it, in a file that ends in .tried.

    A process that dies in here leaves the present text or the one before, never a part. Raises Failure if FILE cannot
    be written.
    """
    path = os.path.realpath(file.path)  # the name may be a link to a file under version control
    try:
        if os.path.exists(path):
            with open(path, "rb") as present:
                _replace(file.path + TRIED, present.read(), like=path)
        if file.before is None:
            os.unlink(path)
        else:
            _replace(path, file.before.encode(), like=path)
    except OSError as error:
        what = f"{file.path} cannot be given back its text of before: {os.strerror(error.errno or 0)}"
        raise Failure(what, f"see: ls -l {file.path}") from error


def _replace(path: str, text: bytes, like: str | None) -> None:
    """Write TEXT to PATH, with the owner and the permissions of the file LIKE if it exists, at once and on the disk."""
    beside = f"{path}.new"
    with open(beside, "wb") as file:
        if like and os.path.exists(like):
            model = os.stat(like)
            os.fchmod(file.fileno(), stat.S_IMODE(model.st_mode))
            os.fchown(file.fileno(), model.st_uid, model.st_gid)
        elif like is None:
            os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)
    settle(os.path.dirname(path))
