# SPDX-License-Identifier: BSD-2-Clause
"""The command line: who may ask for what, and what is said to those who type it wrong."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from samples import ROOT

from ganeti_vif.cli import command_line as cli
from ganeti_vif.cli import rights
from ganeti_vif.kernel import privileges
from ganeti_vif.system import version

VERSION = re.search(r"\(([^)]+)\)", (ROOT / "debian" / "changelog").read_text(encoding="utf-8"))


@pytest.fixture
def alice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Somebody who is not root, on a node where the files in this directory are root's."""
    monkeypatch.setattr(privileges, "is_root", lambda: False)
    monkeypatch.setattr(privileges, "name", lambda: "alice")
    monkeypatch.setattr(privileges, "has", lambda capability: False)
    monkeypatch.setattr(privileges, "closed", lambda paths: [path for path in paths if Path(path).exists()])
    monkeypatch.setattr(rights, "ASKED", (str(tmp_path / "control.sock"), str(tmp_path / "missing")))
    monkeypatch.setattr(rights, "HELD", (str(tmp_path / "node.lock"),))
    (tmp_path / "control.sock").touch()
    (tmp_path / "node.lock").touch()
    return tmp_path


CHANGES = [name for name, (_, writes, _) in cli.VERBS.items() if writes and name not in ("import", *cli.WHOLE)]
LOOKS = [["status"], ["check", "--json"], ["explain", "tap0"], ["doctor"], *([name, "--dry-run"] for name in CHANGES)]


@pytest.mark.parametrize("arguments", LOOKS, ids=" ".join)
def test_who_may_not_see_everything_is_told_what_and_sees_nothing(
    arguments: list[str], alice: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments, {}) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "error: only root can look at all of this: alice may not read the filters in nftables (CAP_NET_ADMIN), "
        f"{alice}/control.sock{f', {alice}/node.lock' if '--dry-run' in arguments else ''}\n  fix: sudo ganeti-vif {' '.join(arguments)}\n"
    )


@pytest.mark.parametrize("verb", CHANGES)
def test_only_root_changes_the_network(verb: str, alice: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb], {}) == 1
    what, fix = capsys.readouterr().err.splitlines()
    assert what == "error: only root can change the node's network, and this is alice"
    assert fix == f"  fix: sudo ganeti-vif {verb}"


def test_settings_are_imported_by_anybody_who_can_read_them(alice: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["import", "--dry-run"], {})
    assert "alice" not in capsys.readouterr().err


def test_a_process_knows_its_capabilities() -> None:
    bits = re.search(r"^CapEff:\t(\w+)$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert bits
    assert [one for one in range(64) if privileges.has(one)] == [
        one for one in range(64) if int(bits[1], 16) >> one & 1
    ]


@pytest.mark.parametrize("program", ["ganeti-vif", "ganeti-vifd", "ganeti-vif-responder"])
def test_a_program_says_its_version(program: str) -> None:
    done = subprocess.run(
        [ROOT / "ganeti_vif" / "entry" / program, "--version"], capture_output=True, text=True, check=True
    )
    assert VERSION
    assert done.stdout == f"{program} {VERSION[1]}\n"


def test_an_installed_program_has_its_version_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "ROOT", str(tmp_path))
    assert version.version() == "unknown"
    (tmp_path / "VERSION").write_text("1.2~bpo12+1\n", encoding="utf-8")
    assert version.version() == "1.2~bpo12+1"


@pytest.mark.parametrize("arguments", [["detach"], ["detach", "--dry-run"]])
def test_a_detach_of_nothing_explains_detach(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(privileges, "is_root", lambda: True)
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments, {})
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: ganeti-vif detach ")
    assert "which tap?" in said and "ganeti-vif status" in said and "attach --help" not in said and "--mode" not in said


def test_an_attach_of_nothing_explains_attach(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(privileges, "is_root", lambda: True)
    with pytest.raises(SystemExit) as caught:
        cli.main(["attach"], {})
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: ganeti-vif attach ")
    assert "which NIC?" in said and "--interface" in said


def test_an_attach_that_lacks_something_names_the_flag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(privileges, "is_root", lambda: True)
    assert (
        cli.main(
            [
                "attach",
                "--dry-run",
                "--instance",
                "a",
                "--interface",
                "lo",
                "--mode",
                "bridged",
                "--mac",
                "aa:00:00:00:00:07",
            ],
            {},
        )
        == 1
    )
    what, fix = capsys.readouterr().err.splitlines()
    assert "the variable LINK is missing or empty (by hand: --link)" in what
    assert fix == "  see: ganeti-vif attach --help"


def test_modes_are_those_that_there_are() -> None:
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["attach", "--mode", "bridge"])
    assert cli.parser().parse_args(["attach", "--mode", "routed"]).mode == "routed"
