# SPDX-License-Identifier: BSD-2-Clause
"""The documentation knows every key of the configuration, and the manual pages say what --help says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from samples import ROOT

from ganeti_vif.cli import command_line as cli
from ganeti_vif.cli import network_flags
from ganeti_vif.cli.help import HELP
from ganeti_vif.config import parse
from ganeti_vif.system import records


def keys_of(section: str) -> set[str]:
    """The keys that docs/configuration.md has for [SECTION ...]."""
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    (part,) = re.findall(rf"^## \[{section}\b.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| (`[^|]+`) \|", part, re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`([a-z0-9-]+)`", cell)}


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("private", set(parse._PRIVATE) - set(parse._TOLD)),
        ("public", set(parse._PUBLIC) - set(parse._TOLD)),
        ("bindings", set(parse._BINDINGS)),
        ("responder", set(parse._RESPONDER)),
        ("network", set(parse._NETWORK) - set(parse._TOLD)),
    ],
)
def test_the_documentation_has_each_key_and_no_other(section: str, keys: set[str]) -> None:
    assert keys_of(section) == keys


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("manual")
    subprocess.run([ROOT / "tools" / "manual", directory], check=True, env={"SOURCE_DATE_EPOCH": "0"})
    return directory


def test_there_is_a_page_for_everything(manual: Path) -> None:
    names = {"ganeti-vif.8", "ganeti-vifd.8", "ganeti-vif-responder.8", "ganeti-vif.conf.5", "kvm-vif-bridge.7"}
    assert {path.name for path in manual.iterdir()} == names | {"ganeti-vif.completion"}
    for name in names:
        assert '"1970-01-01"' in (manual / name).read_text(encoding="utf-8")


def test_a_page_has_each_verb_with_its_flags(manual: Path) -> None:
    text = (manual / "ganeti-vif.8").read_text(encoding="utf-8").replace("\\-", "-")
    (verbs,) = [
        action for action in cli.parser()._actions if action.dest == "verb" or hasattr(action, "_name_parser_map")
    ]
    assert verbs.choices
    for name, verb in dict(verbs.choices).items():
        part = text.partition(f".SS ganeti-vif {name}\n")[2].partition("\n.SS ")[0]
        assert part, name
        for action in verb._actions:
            assert all(f"\\fB{option}\\fR" in part for option in action.option_strings)


def test_the_page_has_the_verbs_of_network_with_their_flags(manual: Path) -> None:
    text = (manual / "ganeti-vif.8").read_text(encoding="utf-8").replace("\\-", "-")
    part = text.partition(".SS ganeti-vif network\n")[2].partition("\n.SS ")[0]
    for name in network_flags.VERBS:
        assert f"\nganeti-vif network {name} " in part.replace("\\fBganeti-vif\\fR", "ganeti-vif")
    for flag in ("--subnet6", "--isolate", "--disconnect", "--reboot", "--nic", "--older", "--rapi", "--credentials"):
        assert f"\\fB{flag}\\fR" in part


def completed(manual: Path, *words: str) -> list[str]:
    """What bash offers for the last of WORDS."""
    line = " ".join(f"'{word}'" for word in words)
    script = f"""
        . {manual}/ganeti-vif.completion
        COMP_WORDS=({line}) COMP_CWORD={len(words) - 1}
        _ganeti_vif
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-uc", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ganeti-vif", "rec"], ["reconcile"]),
        (["ganeti-vif", "setup", "--dr"], ["--dry-run"]),
        (["ganeti-vif", "--config", "/dev/null", "sta"], ["status"]),
        (["ganeti-vif", "status", "--dr"], []),
        (["ganeti-vif", "--config", "/dev/nul"], ["/dev/null"]),
        (["ganeti-vif", "attach", "--mode", ""], ["bridged", "routed", "openvswitch"]),
        (["ganeti-vif", "attach", "--mode", "r"], ["routed"]),
        (["ganeti-vif", "--vers"], ["--version"]),
        (["ganeti-vif", "network", "con"], ["connect"]),
        (["ganeti-vif", "network", "create", "--subn"], ["--subnet", "--subnet6"]),
    ],
)
def test_bash_completes_verbs_and_flags(manual: Path, words: list[str], offered: list[str]) -> None:
    assert completed(manual, *words) == offered


@pytest.mark.parametrize("verb", ["detach", "explain"])
def test_bash_completes_the_taps_that_there_are(manual: Path, tmp_path: Path, verb: str) -> None:
    script = (manual / "ganeti-vif.completion").read_text(encoding="utf-8")
    (tmp_path / "ganeti-vif.completion").write_text(script.replace(records.DIRECTORY, str(tmp_path)), encoding="utf-8")
    assert not [word for word in completed(tmp_path, "ganeti-vif", verb, "") if not word.startswith("--")]
    for tap in ("tap0", "tap12"):
        (tmp_path / f"{tap}.json").touch()
    assert completed(tmp_path, "ganeti-vif", verb, "t") == ["tap0", "tap12"]


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_each_verb_has_its_statuses_and_examples_in_help_and_manual(
    manual: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"], {})
    shown = capsys.readouterr().out
    text = (manual / "ganeti-vif.8").read_text(encoding="utf-8").replace("\\-", "-").replace("\\(aq", "'")
    part = text.partition(f".SS ganeti-vif {verb}\n")[2].partition("\n.SS ")[0]
    assert HELP[verb].examples
    for example in HELP[verb].examples:
        assert f"\n  {example}\n" in shown and f"\n{example}\n" in part
    assert 0 in HELP[verb].statuses
    for status in HELP[verb].statuses:
        assert f"\n.TP\n\\fB{status}\\fR\n" in part
