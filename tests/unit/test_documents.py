# SPDX-License-Identifier: BSD-2-Clause
"""How the documents are read whose commands the e2e tests type."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import documents
from tests.e2e.documents import Command, blocks, commands, forgotten, sample, unlike

TEXT = """\
# Title
```
make demo
```
## 1. First
Words.

```ini
[section]
```
```
node1# one \\
    --more
printed
...
node2# two     # says nothing
```
   ```
   node1# indented
   ```
## 2. Second
```
error: what
  fix: how
```
"""


@pytest.fixture(autouse=True)
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.md").write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    monkeypatch.setattr(documents, "TYPED", ("a.md",))


def test_commands_have_their_node_their_continuation_and_their_output() -> None:
    first = commands("a.md", "1. First")[:2]
    assert first == [
        Command(1, "one --more", ("printed", "..."), "a.md:12"),
        Command(2, "two     # says nothing", (), "a.md:16"),
    ]
    assert commands("a.md", "Title") == [Command(1, "make demo", (), "a.md:3")]
    assert documents.configuration("a.md", "1.") == "[section]\n"
    assert sample("a.md", "2. Second", "error:").lines == ("error: what", "  fix: how")


def test_a_section_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        blocks("a.md", "3. Third")


def test_a_block_that_nobody_types_needs_a_reason_and_a_reason_needs_a_block() -> None:
    every = {command.place for block in blocks("a.md") for command in block.commands}
    every |= {block.place for block in blocks("a.md") if not block.commands}
    assert list(forgotten(every, [])) == []
    assert len(list(forgotten(every - {"a.md:16"}, []))) == 1
    assert list(forgotten(every - {"a.md:16"}, ["node1# one"])) == []
    assert len(list(forgotten(every, ["make demo"]))) == 1


NIC = "web.example.com NIC 0 (tap0): attached to routed public"


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (["a  b", "", "c"], ["a b", "c"]),
        (["...", "b", "..."], ["a", "b", "c"]),
        ([f"Nov 26 20:20:40 node1 ganeti-vif[59]: {NIC}, 19 changes; NIC 00000005-498b-449c-b73e-37c3b9ff8c03"],
         [f"Dec  1 01:00:00 n ganeti-vif[6]: {NIC.replace('tap0', 'tap7')}, 1 change; NIC 10000005-498b-449c-b73e-37c3b9ff8c03"]),
        (["525 changes made"], ["1 change made"]),
        (['mac 02:3c:9c:e4:de:8c 732d2590"'], ['mac 02:3c:9c:e4:de:00 00000000"']),
    ],
)  # fmt: skip
def test_samples_that_agree(shown: list[str], printed: list[str]) -> None:
    assert unlike(shown, printed) is None


@pytest.mark.parametrize(
    ("shown", "printed", "what"),
    [
        (["a"], ["b"], "a"),
        (["a"], ["a", "more"], "more"),
        (["a"], ["before", "a"], "a"),
        (["...", "b"], ["a"], "b"),
        (["b", "...", "a"], ["a", "b"], "b"),
        (["tap0 192.0.2.2"], ["tap0 192.0.2.3"], "tap0 192.0.2.2"),
    ],
)
def test_samples_that_do_not(shown: list[str], printed: list[str], what: str) -> None:
    assert unlike(shown, printed) == what
