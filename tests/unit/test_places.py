# SPDX-License-Identifier: BSD-2-Clause
"""What the documents say of the tree is true: paths, rooms, contents, links, and the length of the glossary."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from product import PURE_ROOMS, ROOMS
from samples import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "NEWS.md", *sorted((ROOT / "docs").glob("*.md"))]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATH = re.compile(r"(?<![\w/.*-])((?:[a-z_0-9]+/)+(?:[a-z_0-9]+\.py|kvm-vif-bridge(?!\.)))\b")
"""A path of a module, or of the client of the daemon."""
documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def section(heading: str) -> str:
    return ARCHITECTURE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def headings(text: str) -> Iterator[str]:
    """The headings of TEXT below its title, without those of code blocks."""
    yield from re.findall(r"^##+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)


def anchor(heading: str) -> str:
    """What a link to HEADING has after its #."""
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


@documents
def test_each_path_is_in_the_tree(document: Path) -> None:
    text = re.sub(r"https?://\S+", "", document.read_text(encoding="utf-8"))
    named = set(PATH.findall(text))
    missing = {path for path in named if not (ROOT / path).is_file() and not (ROOT / "ganeti_vif" / path).is_file()}
    assert missing == set()


def test_this_test_sees_paths() -> None:
    assert {"entry/kvm-vif-bridge", "daemon/answers.py", "hooks/hook.py"} <= set(PATH.findall(ARCHITECTURE))
    assert PATH.findall("/etc/ganeti/kvm-vif-bridge and /usr/lib/x/kvm-vif-bridge") == []


@documents
def test_each_link_leads_somewhere(document: Path) -> None:
    for place, part in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", document.read_text(encoding="utf-8")):
        target = document.parent / place if place else document
        assert target.is_file(), place
        if part:
            assert part in map(anchor, headings(target.read_text(encoding="utf-8"))), part


def test_the_contents_are_the_sections() -> None:
    listed = re.findall(r"^\* \[(.+)\]\(#(.+)\)$", section("Contents"), re.MULTILINE)
    sections = [heading for heading in re.findall(r"^## (.+)$", ARCHITECTURE, re.MULTILINE) if heading != "Contents"]
    assert listed == [(heading, anchor(heading)) for heading in sections]


def test_each_room_is_there_with_its_reason_in_its_order() -> None:
    rows = re.findall(r"^\| `(.+)` \| (yes)? ?\| (.+) \|$", section("Rooms"), re.MULTILINE)
    assert [room for room, _, _ in rows] == [*ROOMS]
    assert {room for room, pure, _ in rows if pure} == PURE_ROOMS


def test_the_readme_lists_the_rooms_in_their_order() -> None:
    layout = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Layout\n")[2].partition("\n## ")[0]
    inside = [room for room in ROOMS if (ROOT / "ganeti_vif" / room).is_dir() and "/" not in room]
    assert re.findall(r"^  ([a-z]+)/ ", layout, re.MULTILINE) == inside


def test_the_readmes_samples_are_of_one_run() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (process,) = re.findall(r"^daemon: process (\d+)$", text, re.MULTILINE)
    assert re.findall(r" ganeti-vif\[(\d+)\]: ", text) == [process]
    (bridges,) = re.findall(r"^bridges = (\S+)$", text, re.MULTILINE)
    assert re.search(rf"^pvn +{bridges} ", text, re.MULTILINE)
    assert len(set(re.findall(r"^[A-Z][a-z]{2} \d+ ", text, re.MULTILINE))) == 1


def test_the_path_of_a_nic_numbers_its_files() -> None:
    numbers = [
        int(number) for number in re.findall(r"^ *(?:\| +)*(\d+) [a-z]", section("The path of a NIC"), re.MULTILINE)
    ]
    assert numbers == [*range(1, 12)]


def test_the_glossary_is_short_and_explains_each_word_once() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = [word for row in re.findall(r"^\| (.+?) \|", text, re.MULTILINE) for word in row.split(", ")][1:]
    assert len(words) == len(set(words))
    assert 20 < len(re.findall(r"^\| ", text, re.MULTILINE)) - 1 <= 32
