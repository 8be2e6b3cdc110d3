# SPDX-License-Identifier: BSD-2-Clause
"""Members of enums: one that the product never names is a promise that nobody keeps."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from product import MODULES, tree

ENUMS = {"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"}


def enums() -> Iterator[tuple[str, ast.ClassDef]]:
    for module in MODULES:
        for node in tree(module).body:
            if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & ENUMS:
                yield module, node


def members(enum: ast.ClassDef) -> set[str]:
    targets = [target for line in enum.body if isinstance(line, ast.Assign) for target in line.targets]
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


def aliases(home: str, enum: str, module: str) -> Iterator[str]:
    """The words that MODULE has for the ENUM that is defined in HOME."""
    dotted = home.removesuffix(".py").replace("/", ".")
    if module == home:
        yield enum
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom):
            for one in node.names:
                if (node.module, one.name) == (dotted, enum):
                    yield one.asname or one.name
                if f"{node.module}.{one.name}" == dotted:
                    yield f"{one.asname or one.name}.{enum}"


def named(home: str, enum: str) -> Iterator[str]:
    """The members of that ENUM that the product names, outside of its definition."""
    for module in MODULES:
        words = set(aliases(home, enum, module))
        if words:
            for node in ast.walk(tree(module)):
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) in words:
                    yield node.attr


def test_this_test_sees_the_enums() -> None:
    assert len(list(enums())) > 15


@pytest.mark.parametrize(("module", "enum"), enums(), ids=lambda one: getattr(one, "name", one))
def test_each_member_is_used(module: str, enum: ast.ClassDef) -> None:
    assert members(enum) - set(named(module, enum.name)) == set()
