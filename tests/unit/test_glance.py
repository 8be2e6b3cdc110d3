# SPDX-License-Identifier: BSD-2-Clause
"""All nodes at a glance: each is asked, one that does not answer is named, and what differs is told."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ganeti_vif.cli import rights
from ganeti_vif.cli.command_line import main
from ganeti_vif.cluster.glance import Seen, differences, seen
from ganeti_vif.engine.failure import Failure
from ganeti_vif.system import other_nodes, ssconf
from ganeti_vif.system.other_nodes import Member

CONFIG = "[private pvn]\nbridges = 1-3\nmtu = 1400\n\n[public rt]\ntable = 5\n"


def answer(configuration: str = CONFIG, version: str = "0.2", **shown: object) -> str:
    status = {"nics": [{}, {}], "differences": 0, "trouble": [], "daemon": {"pid": 1}} | shown
    return f"ganeti-vif {version}\n{json.dumps(status, indent=2)}\n{json.dumps({'configuration': configuration})}\n"


def test_an_answer_is_read_whole() -> None:
    one = seen("node1", "default", 0, answer(), "note: something\n  see: it\n")
    assert (one.trouble, one.version, one.shown["differences"], one.configuration) == ("", "0.2", 0, CONFIG)


@pytest.mark.parametrize(
    ("status", "output", "errors", "trouble"),
    [
        (None, "", "", "no answer in time"),
        (
            255,
            "",
            "ssh: connect to host node2 port 22: No route to host\n",
            "ssh: connect to host node2 port 22: No route to host",
        ),
        (255, "", "", "ssh cannot connect"),
        (127, "", "sh: 1: ganeti-vif: not found\n", "ganeti-vif is not installed"),
        (1, "ganeti-vif 0.2\n", "error: the configuration is wrong\n  fix: x\n", "error: the configuration is wrong"),
        (2, "ganeti-vif 0.1\n{}\n", "usage: ganeti-vif\n", "usage: ganeti-vif"),
        (0, "ganeti-vif 0.2\n[]\n7", "", "its answer is not understood (status 0)"),
    ],
)
def test_a_node_without_an_answer_has_a_reason(status: int | None, output: str, errors: str, trouble: str) -> None:
    assert seen("node2", "default", status, output, errors).trouble == trouble


def at(node: str, configuration: str = CONFIG, *, group: str = "default", version: str = "0.2") -> Seen:
    return Seen(node, group, "", version, {}, configuration)


def test_what_differs_from_most_nodes_of_the_group_is_told() -> None:
    other = CONFIG.replace("mtu = 1400", "mtu = 1500").replace("[public rt]\ntable = 5\n", "")
    nodes = [at("node1"), at("node2", other), at("node3", version="0.1"), Seen("node4", "default", "no answer in time")]
    assert list(differences(nodes)) == [
        "node2: [private pvn] mtu = 1500: not so on node1",
        "node2: [private pvn] mtu = 1400: only on node1, and most nodes",
        "node2: [public rt]: only on node1, and most nodes",
        "node2: [public rt] table = 5: only on node1, and most nodes",
        "node3: ganeti-vif 0.1, and 0.2 on most nodes of the group default",
    ]
    assert list(differences([at("node1"), at("node2", other, group="rack2")])) == [], "groups may differ"


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster of five nodes, and an ssh that answers for four of them: one hangs."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "answers").mkdir()
    script = tmp_path / "bin" / "ssh"
    script.write_text(
        "#!/bin/sh\n"
        "for last; do node=$command; command=$last; done\n"
        f'cd {tmp_path}/answers; echo "$*" >>../asked\n'
        'node=${node#root@}; [ "$node" != hangs ] || exec sleep 600\n'
        'cat "$node" 2>/dev/null || { echo "ssh: no route to $node" >&2; exit 255; }\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(ssconf, "CLUSTER_NAME", str(tmp_path / "cluster_name"))
    monkeypatch.setattr(ssconf, "SSH_PORTS", str(tmp_path / "ssh_ports"))
    (tmp_path / "cluster_name").write_text("cluster.example.com\n")
    (tmp_path / "ssh_ports").write_text("node2=2222\n")
    names = ("node1", "node2", "away", "hangs", "retired")
    monkeypatch.setattr(other_nodes, "members", lambda: [Member(n, "default", n == "retired") for n in names])
    start = other_nodes._started

    def started(node: str, *rest: Any) -> Any:
        """Only the node that hangs is waited for shortly: the machine of the test may have much else to do."""
        call = start(node, *rest)
        call.ends = time.monotonic() + (1 if node == "hangs" else 120)
        return call

    monkeypatch.setattr(other_nodes, "_started", started)
    monkeypatch.setattr(rights, "require", lambda *_, **__: None)
    return tmp_path


def test_all_nodes_are_asked_and_none_keeps_the_others_waiting(ssh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (ssh / "answers" / "node1").write_text(answer())
    (ssh / "answers" / "node2").write_text(answer(differences=2))
    assert main(["cluster", "status"], {}) == 1
    assert capsys.readouterr().out.splitlines() == [
        "NODE     GROUP    VERSION  NICS  STATE",
        "away     default  -        -     ssh: no route to away",
        "hangs    default  -        -     no answer in time",
        "node1    default  0.2      2     ok",
        "node2    default  0.2      2     2 differences",
        "retired  default  -        -     offline in Ganeti, and not asked",
        "",
    ]
    asked = (ssh / "asked").read_text().splitlines()
    assert len(asked) == 4 and not [line for line in asked if "retired" in line]
    assert all("-oHostKeyAlias=cluster.example.com" in line and "StrictHostKeyChecking=yes" in line for line in asked)
    assert [("-oPort=2222 " in line) for line in asked if "root@node2" in line] == [True]


def test_check_names_node_difference_and_fix(ssh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("away", "hangs"):
        (ssh / "answers" / name).write_text("")
    trouble = [{"what": "ganeti-vifd does not run", "do": "systemctl start ganeti-vifd"}]
    (ssh / "answers" / "node1").write_text(
        answer(differences=["ganeti-vifd does not run", "pvn1: is down"], trouble=trouble)
    )
    (ssh / "answers" / "node2").write_text(answer(differences=[]))
    assert main(["cluster", "check"], {}) == 1
    said = capsys.readouterr().out
    assert (
        "node1: ganeti-vifd does not run\n  on node1: fix: systemctl start ganeti-vifd\nnode1: pvn1: is down\n" in said
    )
    assert "node2" not in said


def test_where_all_is_well_it_says_so(
    ssh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(other_nodes, "members", lambda: [Member("node1", "default", False)])
    (ssh / "answers" / "node1").write_text(answer(differences=[]))
    assert main(["cluster", "check"], {}) == 0
    assert capsys.readouterr().out == "all nodes are as they should be\n"
    (ssh / "answers" / "node1").write_text(answer(changes=3, differences=None))
    assert main(["cluster", "reconcile", "--json"], {}) == 0
    assert json.loads(capsys.readouterr().out)["nodes"][0]["reconcile"]["changes"] == 3


def test_an_interrupted_caller_leaves_no_ssh(ssh: Path) -> None:
    (ssh / "answers" / "node1").write_text(answer())
    answers = other_nodes.ask(["node1", "hangs"], "x", lambda done, total: None)
    assert next(answers).node == "node1"
    answers.close()  # type: ignore[attr-defined]
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_node_that_is_not_the_master_says_where_to_go(ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(ssh / "bin"))
    with pytest.raises(Failure, match="gnt-node does not run"):
        other_nodes.members()
    (ssh / "bin" / "gnt-node").write_text("#!/bin/sh\necho 'This is not the master node' >&2; exit 1\n")
    (ssh / "bin" / "gnt-node").chmod(0o755)
    with pytest.raises(Failure, match="This is not the master node"):
        other_nodes.members()
    (ssh / "bin" / "gnt-node").write_text("#!/bin/sh\necho 'n1|default|N|Y'; echo 'n2|g|Y|Y'; echo 'n3|g|N|N'\n")
    assert other_nodes.members() == [Member("n1", "default", False), Member("n2", "g", True)]
