# SPDX-License-Identifier: BSD-2-Clause
"""Talking to a monitor: whatever is at its other end, the answer is right or a Failure, and comes in time."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from samples import outcome

from ganeti_vif.engine.failure import Failure
from ganeti_vif.system.qemu import monitor

GREETING = '{"QMP": {"version": {}, "capabilities": []}}'
DONE = '{"return": {}}'
RUNS = '{"return": {"status": "running", "running": true}}'
EVENT = '{"event": "RTC_CHANGE", "timestamp": {}}'
NETWORK = json.dumps({"return": "nic-1: index=0,type=nic,model=x\r\n \\ nic-1: index=0,type=tap,fd=9\r\n"})

Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serves one client: says the first line, then one for each question. Returns its path."""
    monkeypatch.setattr(monitor, "PATIENCE", 30.0)
    with ExitStack() as stack:

        def begin(*lines: str) -> str:
            path = str(tmp_path / "qmp")
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(path)
            server.listen(1)
            thread = threading.Thread(target=_answer, args=(server, lines))
            thread.start()
            stack.callback(thread.join)
            return path

        yield begin


def _answer(server: socket.socket, lines: tuple[str, ...]) -> None:
    client, _ = server.accept()
    with client:
        for number, line in enumerate(lines):
            if number and not client.recv(65536):
                return
            try:
                client.sendall(line.encode() + b"\n")
            except OSError:
                return


def test_a_conversation(serve: Serve) -> None:
    path = serve(GREETING, DONE, f"{EVENT}\n{RUNS}", f"{EVENT}\n{EVENT}\n{NETWORK}")
    assert monitor.tap_descriptors(path) == {"nic-1": {9}}


@pytest.mark.parametrize("state", monitor.MOVING)
def test_a_guest_that_moves_is_not_here(serve: Serve, state: str) -> None:
    path = serve(GREETING, DONE, json.dumps({"return": {"status": state}}), NETWORK)
    found = outcome(lambda: monitor.tap_descriptors(path))
    assert isinstance(found, Failure)
    assert state in found.what


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        (("hello",), "cannot be asked"),
        (("[]",), "does not speak QMP"),
        ((GREETING, '{"error": {"class": "CommandNotFound"}}'), "CommandNotFound"),
        ((GREETING, DONE), "cannot be asked"),
        ((GREETING, DONE, RUNS, '{"return": 7}'), "no text"),
        (("x" * (monitor.LONGEST + 100),), "no end"),
    ],
)
def test_an_answer_that_is_none_is_refused(serve: Serve, lines: tuple[str, ...], part: str) -> None:
    path = serve(*lines)
    found = outcome(lambda: monitor.tap_descriptors(path))
    assert isinstance(found, Failure)
    assert part in found.what


def test_silence_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "PATIENCE", 0.2)
    path = str(tmp_path / "qmp")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(1)
        found = outcome(lambda: monitor.tap_descriptors(path))
    assert isinstance(found, Failure)
    assert "does not answer" in found.what


@pytest.mark.parametrize("name", ["qmp", "x" * 200])
def test_a_socket_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    assert isinstance(outcome(lambda: monitor.tap_descriptors(str(tmp_path / name))), Failure)
