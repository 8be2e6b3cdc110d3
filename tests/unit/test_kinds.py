# SPDX-License-Identifier: BSD-2-Clause
"""Each kind of object is complete: it is read and performed, it has a name, and --dry-run prints commands for it.

docs/architecture.md, "Adding a kind of object", says what a new one takes.
"""

from __future__ import annotations

import ast
from typing import get_args

import pytest
from product import tree
from test_words import OBJECTS

from ganeti_vif.engine.commands import commands
from ganeti_vif.engine.difference import Alter, Make, Remove
from ganeti_vif.engine.naming import finding, name
from ganeti_vif.engine.state import ORDER, Object

NODE = "ganeti_vif/system/node.py"
kinds = pytest.mark.parametrize("kind", get_args(Object), ids=lambda kind: kind.__name__)


def mentioned(function: str) -> set[str]:
    """The names in FUNCTION of the node."""
    (found,) = (one for one in ast.walk(tree(NODE)) if isinstance(one, ast.FunctionDef) and one.name == function)
    return {node.id for node in ast.walk(found) if isinstance(node, ast.Name)}


def test_the_union_is_the_order() -> None:
    assert get_args(Object) == ORDER
    assert len(set(ORDER)) == len(ORDER) >= 20


@kinds
def test_each_kind_is_read_and_performed(kind: type) -> None:
    assert kind.__name__ in mentioned("_read")
    performed = mentioned("perform")
    assert any(base.__name__ in performed for base in kind.__mro__)


@kinds
def test_each_kind_has_a_name_and_commands(kind: type) -> None:
    examples = [thing for thing in OBJECTS if type(thing) is kind]
    assert examples, "an example of it in test_words.py"
    for thing in examples:
        assert name(thing)
        for change in (Make(thing), Alter(thing, thing), Remove(thing)):
            assert finding(change)
        for change in (Make(thing), Remove(thing)):
            assert list(commands(change))
