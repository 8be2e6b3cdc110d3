# SPDX-License-Identifier: BSD-2-Clause
"""What messages say to do is a command, or says that it is none: every text of the project that a Failure or a Finding
is made with, with a word in the place of each value."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from product import MODULES
from samples import ROOT
from shell import shell_takes

from ganeti_vif.engine.failure import in_brackets, remedy

VALUE = "x1"
"""What stands for a value, of which a program's name may be one."""
KINDS = {"Failure", "Gone", "Finding"}


def texts(value: ast.expr | None, constants: dict[str, ast.expr]) -> Iterator[str]:
    """The texts that VALUE may be, as far as the source tells."""
    match value:
        case ast.Constant(value=str() as text):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in parts)
        case ast.IfExp(body=one, orelse=other):
            yield from (*texts(one, constants), *texts(other, constants))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield from (a + b for a in texts(left, constants) for b in texts(right, constants))
        case ast.Name(id=name) if name in constants:
            yield from texts(constants[name], constants)


def said(module: str) -> Iterator[tuple[int, str]]:
    """Each DO of MODULE, with its line."""
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and len(node.targets) == 1]
    constants = {node.targets[0].id: node.value for node in assigned if isinstance(node.targets[0], ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            do = given.get("do", node.args[1] if len(node.args) > 1 else None)
            yield from ((node.lineno, text) for text in texts(do, constants))


def test_this_test_sees_the_project() -> None:
    found = {text for module in MODULES for _, text in said(module)}
    assert len(found) > 80
    assert found >= {
        "modprobe x1",
        "ip link set x1 group 0",
        "note: mend that line; each key: man ganeti-vif.conf",
        "see: ip link show",
    }


@pytest.mark.parametrize("module", MODULES)
def test_what_looks_like_a_command_is_one(module: str) -> None:
    assert [(line, text) for line, text in said(module) if not shell_takes(text, VALUE)] == []


@pytest.mark.parametrize(
    "words",
    [
        "run it as root",
        "restart it: gnt-instance reboot",
        "ip rule del pref 1; and out of the file",
        "ganeti-vif adopt again; or not",
        "sysctl -w x=0 && for good: in a file",
        "ip link del x, if nothing uses it; it's old",
    ],
)
def test_words_are_no_command(words: str) -> None:
    assert not shell_takes(words)


def test_a_message_tells_a_command_from_words() -> None:
    assert remedy("ip link set tap0 up") == "fix: ip link set tap0 up"
    assert remedy("see: ip link show") == "see: ip link show"
    assert remedy("note: choose another name") == "note: choose another name"
    assert in_brackets("note: choose another name") == "(choose another name)"
    assert in_brackets("see: ip link show") == "(see: ip link show)"
