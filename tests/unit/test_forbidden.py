# SPDX-License-Identifier: BSD-2-Clause
"""What may not be read is not taken for what is not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganeti_vif.daemon.trouble import Trouble
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Sysctl
from ganeti_vif.kernel import scheduling, sysctl
from ganeti_vif.lifecycle import recorded
from ganeti_vif.system import log, node, processes, records, settings, ssconf, tables
from ganeti_vif.system.qemu import incoming
from ganeti_vif.system.qemu import process as qemu_process
from ganeti_vif.system.qemu import running as qemu

READERS: dict[str, Callable[[str], object]] = {
    "a configuration": settings.text,
    "where a link points to": settings.link_of,
    "the kernel's settings": lambda path: sysctl.value(path),
    "the names of tables": lambda path: tables.table_number("public"),
    "a record": lambda path: records.read_record("tap0"),
    "whether a tap is somebody's": lambda path: recorded.former_owner("tap0"),
    "all records": lambda path: list(records.read_all()),
    "what tells this node from others": lambda path: node.identity(),
    "who listens": lambda path: processes._sockets(1),
    "which instances run": lambda path: qemu.instances(),
    "the pid file of an instance": lambda path: incoming.cards("vm5", {}),
    "the cluster's key": lambda path: ssconf.cluster_key(),
    "the nic files of an instance": incoming.nic_files,
}


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is opened or listed from now on is forbidden."""

    def refuse(*_: object, **__: object) -> Any:
        raise PermissionError(13, "Permission denied")

    for name in ("open", "listdir", "scandir", "stat", "readlink"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr("builtins.open", refuse)


@pytest.mark.parametrize("what", READERS)
def test_it_is_said_and_not_passed_over(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("222 public\n")
    monkeypatch.setattr(tables, "FILES", (str(file),))
    with monkeypatch.context() as patched:
        forbid(patched)
        patched.setattr(tables.glob, "glob", lambda pattern: [pattern])
        with pytest.raises(Failure) as caught:
            READERS[what](str(file))
    assert "Permission denied" in caught.value.what
    assert caught.value.do


def test_what_is_not_there_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl, "ROOT", f"{tmp_path}/")
    assert list(sysctl.read([Sysctl(path="net/ipv4/x", value="1")])) == []
    assert settings.text(f"{tmp_path}/none") is None
    assert settings.link_of(f"{tmp_path}/none") is None
    for module in (qemu, qemu_process, incoming):
        monkeypatch.setattr(module, "DIRECTORY", str(tmp_path))
    assert qemu.instances() == []
    assert incoming.nic_files("vm5") == {}
    assert incoming.cards("vm5", {}) == ()
    assert incoming.unseen() is None


def test_a_process_that_is_hidden_is_not_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """proc(5), hidepid: its directory seems not to be there, and it takes signals."""
    monkeypatch.setattr(qemu_process, "DIRECTORY", str(tmp_path))
    (tmp_path / "pid").mkdir()
    (tmp_path / "pid" / "vm5").write_text(f"{os.getpid()}\n")
    real = os.open

    def hides(path: Any, *arguments: Any, **named: Any) -> int:
        if str(path) == f"/proc/{os.getpid()}":
            raise FileNotFoundError(2, "No such file or directory")
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", hides)
    with pytest.raises(Failure, match="vm5: the process of its QEMU, [0-9]+, is hidden"):
        incoming.cards("vm5", {})


def test_what_may_not_run_first_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(Failure, match="real time while a guest moves: Operation not permitted"):
        scheduling.ensure_urgent(urgent=True)


def test_trouble_is_said_once_and_told_as_long_as_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(log, "say", lambda line, level=log.Level.INFO: said.append(line))
    trouble, failure = Trouble(), Failure("it cannot be seen", "namei -l /proc")
    for _ in range(3):
        trouble.say("the look", failure)
    trouble.say("vm5", failure)
    assert said == ["it cannot be seen", "  fix: namei -l /proc"]
    assert trouble.told == [{"what": "it cannot be seen", "do": "namei -l /proc"}]
    trouble.over("the look")
    assert trouble.told
    trouble.over("vm5")
    assert trouble.told == []
