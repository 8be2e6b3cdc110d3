# SPDX-License-Identifier: BSD-2-Clause
"""What the daemon and the responder say of themselves reaches `check`; a daemon that does not run is told of once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ganeti_vif.config.model import Config
from ganeti_vif.engine.failure import Failure
from ganeti_vif.reconcile import services
from ganeti_vif.system import units

BLIND = {"what": "it may not look into QEMU's monitor", "do": "service ganeti-vifd restart"}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node without Ganeti, whose daemons are to be started at boot."""
    monkeypatch.setattr(services, "GANETI", ())
    monkeypatch.setattr(services.units, "enabled", lambda service: True)
    monkeypatch.setattr(services.responding, "look", lambda config: ({"pid": 2}, []))


def say(monkeypatch: pytest.MonkeyPatch, state: object) -> None:
    answer = None if state is None else (0, json.dumps(state))
    monkeypatch.setattr(services, "ask", lambda door, environment, patience: answer)


@pytest.mark.parametrize(("state", "told"), [({"pid": 1}, []), ({"pid": 1, "trouble": [BLIND]}, [BLIND])])
def test_what_the_daemon_cannot_do_is_told(
    monkeypatch: pytest.MonkeyPatch, state: dict[str, object], told: list[dict[str, str]]
) -> None:
    say(monkeypatch, state)
    assert [{"what": one.what, "do": one.do} for one in services.trouble(Config())] == told


def test_a_daemon_that_does_not_run_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, None)
    monkeypatch.setattr(services.responding, "look", lambda config: (None, []))
    found = services.look(Config())
    assert (found.daemon, found.responder) == (None, None)
    assert [one.what.partition(" ")[0] for one in found.trouble] == ["ganeti-vifd", "ganeti-vif-responder"]
    assert [one.do for one in found.trouble] == ["service ganeti-vifd restart", "service ganeti-vif-responder restart"]
    reason = Failure("ganeti-vif-responder does not run, and 3 guests depend on it", "x")
    monkeypatch.setattr(services.responding, "look", lambda config: (None, [reason]))
    assert [one.what.partition(" ")[0] for one in services.trouble(Config())] == ["ganeti-vifd", "ganeti-vif-responder"]


def test_a_daemon_that_was_disabled_on_purpose_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, None)
    monkeypatch.setattr(services.units, "enabled", lambda service: False)
    monkeypatch.setattr(services.responding, "look", lambda config: (None, []))
    assert services.trouble(Config()) == []


def test_a_unit_is_enabled_if_a_target_wants_it_and_nobody_masked_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(units, "systemd", lambda: True)
    monkeypatch.setattr(units, "LAYERS", (str(tmp_path / "etc"), str(tmp_path / "run")))
    (tmp_path / "run" / "multi-user.target.wants").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    assert not units.enabled("ganeti-vifd")
    (tmp_path / "run" / "multi-user.target.wants" / "ganeti-vifd.service").symlink_to("/nowhere")
    assert units.enabled("ganeti-vifd")
    (tmp_path / "etc" / "ganeti-vifd.service").symlink_to("/dev/null")
    assert not units.enabled("ganeti-vifd")
