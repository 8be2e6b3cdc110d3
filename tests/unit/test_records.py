# SPDX-License-Identifier: BSD-2-Clause
"""Records of NICs: what a crash, a full disk or an older version leaves of them is a Failure at most."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import BRIDGED, ROUTED, nic_of, outcome, proper

from ganeti_vif.engine.difference import Alter, Make, Remove
from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.engine.objects import Record
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import nic_of as nic_of_record
from ganeti_vif.nic.record import record_of
from ganeti_vif.system import records

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "DIRECTORY", str(tmp_path / "nics"))
    return tmp_path / "nics"


def test_a_record_is_written_whole_read_back_and_removed(directory: Path) -> None:
    record = record_of(nic_of(BRIDGED))
    assert [*records.read_all()] == []
    records.perform(Make(record))
    assert [*records.read_all()] == [*records.read([record])] == [record]
    assert os.listdir(directory) == ["tap0.json"]
    newer = Record(tap="tap0", text=record_of(nic_of(ROUTED)).text)
    records.perform(Alter(record, newer))
    assert records.read_record("tap0") == newer
    records.perform(Remove(newer))
    assert records.read_record("tap0") is None
    with pytest.raises(Gone):
        records.perform(Remove(newer))


def test_what_is_no_record_is_not_read(directory: Path) -> None:
    directory.mkdir()
    (directory / ".tap0.new").write_text("half", encoding="ascii")
    (directory / "README").write_text("no record", encoding="ascii")
    assert [*records.read_all()] == []


def test_a_record_that_is_no_text_does_not_keep_others_from_being_read(directory: Path) -> None:
    """It is reported like any other damaged record, and no reason to refuse every VM of the node."""
    records.perform(Make(record_of(nic_of(BRIDGED))))
    (directory / "tap9.json").write_bytes(b"\xff\xfe\x00")
    found = {record.tap: record for record in records.read_all()}
    assert found.keys() == {"tap0", "tap9"}
    assert isinstance(outcome(lambda: nic_of_record(found["tap9"])), Failure)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"version": 0}', '{"version": 1}', '{"version": 1, "network": null}'],
)
def test_a_damaged_record_is_a_failure_that_names_the_tap(text: str) -> None:
    with pytest.raises(Failure, match="tap7") as caught:
        nic_of_record(Record(tap="tap7", text=text))
    assert "ganeti-vif reconcile" in proper(caught.value).do


def test_the_record_of_another_tap_is_refused() -> None:
    with pytest.raises(Failure, match="describes tap0"):
        nic_of_record(Record(tap="tap1", text=record_of(nic_of(BRIDGED)).text))


@given(st.sampled_from(sorted(json.loads(record_of(nic_of(BRIDGED)).text))), JSON)
def test_a_record_with_any_value_anywhere_is_read_or_refused(key: str, value: object) -> None:
    values = json.loads(record_of(nic_of(BRIDGED)).text) | {key: value}
    found = outcome(lambda: nic_of_record(Record(tap="tap0", text=json.dumps(values))))
    assert isinstance(found, Nic | Failure)


@given(st.text(max_size=60))
def test_any_text_is_a_record_or_a_failure(text: str) -> None:
    assert isinstance(outcome(lambda: nic_of_record(Record(tap="tap0", text=text))), Failure)
