# SPDX-License-Identifier: BSD-2-Clause
"""What a node can be asked later."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganeti_vif.system import log


@pytest.fixture(name="file")
def _file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A node without syslog, and where its log goes."""
    monkeypatch.setattr(log, "SOCKET", str(tmp_path / "nothing"))
    monkeypatch.setattr(log, "FILE", str(tmp_path / "ganeti" / "vif.log"))
    return tmp_path / "ganeti" / "vif.log"


def test_without_syslog_lines_go_to_a_file(file: Path) -> None:
    log.say("inst1 NIC 0 (tap0): attached")
    log.say("inst2 NIC 0 (tap1): refused", log.Level.ERROR)
    first, second = file.read_text().splitlines()
    assert first.endswith("info: inst1 NIC 0 (tap0): attached")
    assert second.endswith("error: inst2 NIC 0 (tap1): refused")


def test_a_decision_is_one_line_whatever_it_quotes(file: Path) -> None:
    log.say("link 'a\nb\u00e9'")
    assert file.read_text().count("\n") == 1
    assert file.read_text().isascii()


def test_a_log_that_cannot_be_written_keeps_nobody_from_anything(file: Path) -> None:
    file.parent.write_text("no directory")
    log.say("inst1 NIC 0 (tap0): attached")
    assert file.parent.read_text() == "no directory"
