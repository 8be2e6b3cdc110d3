# SPDX-License-Identifier: BSD-2-Clause
"""The daemon's socket, without the daemon: whole questions come through, everything else is hung up on."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ganeti_vif.engine.failure import Failure
from ganeti_vif.system import control
from ganeti_vif.system.control import LARGEST, PATIENCE, Control

Ask = Callable[[], socket.socket]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Control]:
    with Control(str(tmp_path / "run" / "control.sock")) as door:
        yield door


@pytest.fixture
def client(door: Control, tmp_path: Path) -> Iterator[Ask]:
    """Makes clients that have connected."""
    clients = []

    def connected() -> socket.socket:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        one.settimeout(60)
        one.connect(str(tmp_path / "run" / "control.sock"))
        clients.append(one)
        return one

    yield connected
    for one in clients:
        one.close()


def test_only_its_owner_may_open_it(door: Control, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "run" / "control.sock").stat().st_mode) == 0o600


def test_a_question_is_words_and_its_answer_a_status_and_a_text(door: Control, client: Ask) -> None:
    one = client()
    one.send(b"ganeti-vif 1\0vif\0A=\0")
    (question,) = door.questions()
    assert question.words == [b"ganeti-vif 1", b"vif", b"A=", b""]
    assert not question.withdrawn()
    question.answer("1", "error: so\n")
    assert one.recv(LARGEST) == b"1\nerror: so\n"
    assert one.recv(1) == b""
    question.answer("0", "twice does no harm")


def test_nobody_waits_for_who_is_silent(door: Control, client: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, one = client(), client()
    one.send(b"asked")
    assert [question.words for question in door.questions()] == [[b"asked"]]
    assert 0 < door.patience() <= PATIENCE
    later = control._now() + PATIENCE
    monkeypatch.setattr(control, "_now", lambda: later)
    assert list(door.questions()) == []
    assert silent.recv(1) == b""
    assert door.patience() == float("inf")


@pytest.mark.parametrize("asked", [b"", bytes(LARGEST + 1)])
def test_nothing_and_too_much_are_hung_up_on(door: Control, client: Ask, asked: bytes) -> None:
    one = client()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGEST)
    one.send(asked)
    assert list(door.questions()) == []
    assert one.recv(1) == b""


def test_the_largest_question_comes_through(door: Control, client: Ask) -> None:
    one = client()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGEST)
    one.send(b"x" * LARGEST)
    (question,) = door.questions()
    assert question.words == [b"x" * LARGEST]
    question.client.close()


def test_who_hangs_up_withdraws(door: Control, client: Ask) -> None:
    one = client()
    one.send(b"asked")
    (question,) = door.questions()
    one.close()
    assert question.withdrawn()
    question.answer("0", "")


def test_only_so_many_are_let_in_at_a_time(door: Control, client: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MOST", 2)
    clients = [client() for _ in range(3)]
    assert list(door.questions()) == []
    assert door.listener.fileno() not in list(door.descriptors())
    for one in clients:
        one.send(b"asked")
    answered = list(door.questions())
    assert len(answered) == 2
    assert door.listener.fileno() in list(door.descriptors())
    answered += door.questions()
    assert len(answered) == 3
    for question in answered:
        question.client.close()


def test_what_a_dead_daemon_left_is_replaced_and_gone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))
    with Control(str(path)):
        assert path.is_socket()
    assert not os.path.lexists(path)


def test_a_place_where_there_can_be_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match="cannot be opened"), Control(str(tmp_path / "file" / "control.sock")):
        pass
