# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's runtime files: what they say of NICs, in the shapes of each version, and what is left of damaged ones.

`3.0.2-after-hotplug` was recorded on a node; the others were written after it by what the code of 2.15, 2.16 and 3.1 does
(lib/hypervisor/hv_kvm/__init__.py, _SaveKVMRuntime and _UpgradeSerializedRuntime).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import HERE, ROUTED, assert_golden, nic_of, outcome, proper

from ganeti_vif.desired.adopt import Instance
from ganeti_vif.engine.failure import Failure
from ganeti_vif.ganeti.runtime import instance_of
from ganeti_vif.nic.record import record_of

FILES = sorted((HERE / "captures" / "runtime").glob("*.runtime"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
NIC: dict[str, Any] = {
    "name": "eth0",
    "mac": "aa:00:77:aa:41:95",
    "ip": "10.77.1.2",
    "nicparams": {"link": "rt_pub", "mode": "routed", "vlan": ""},
    "network": "9696066a-7821-42d1-9e6d-aa3dcbb17b20",
    "netinfo": {
        "name": "pubnet",
        "uuid": "9696066a-7821-42d1-9e6d-aa3dcbb17b20",
        "network": "10.77.1.0/24",
        "tags": ["nfdhcpd"],
    },
    "hvinfo": {"id": "nic-8ea16126-78bc-4322"},
    "uuid": "8ea16126-78bc-4322-b857-7c8bb2f50c1e",
}


def of(*nics: Any) -> Instance:
    return instance_of("i1.example.com", json.dumps([[], list(nics), {}, []]))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_file_says(path: Path) -> None:
    found = instance_of("inst1.gnt.test", path.read_text(encoding="utf-8"))
    assert not found.refused
    lines = [line for one in found.nics for line in (one.netdev, *record_of(one.nic).text.splitlines())]
    assert_golden(f"runtime-{path.stem}", lines)


def test_a_nic_of_a_file_is_the_nic_of_the_environment() -> None:
    """Of the same NIC Ganeti says the same either way, but for the instance's tags and the NIC's index."""
    nic = NIC | {"mac": ROUTED["MAC"], "ip": ROUTED["IP"], "uuid": ROUTED["INTERFACE_UUID"]}
    network = {
        "name": ROUTED["NETWORK_NAME"],
        "uuid": ROUTED["NETWORK_UUID"],
        "tags": ROUTED["NETWORK_TAGS"].split(),
        "network": ROUTED["NETWORK_SUBNET"],
        "gateway": ROUTED["NETWORK_GATEWAY"],
        "network6": ROUTED["NETWORK_SUBNET6"],
        "gateway6": ROUTED["NETWORK_GATEWAY6"],
        "mac_prefix": ROUTED["NETWORK_MAC_PREFIX"],
    }
    (one,) = of(nic | {"netinfo": network}).nics
    told = nic_of(ROUTED, TAGS=None, INTERFACE_INDEX=None, INTERFACE="unknown")
    assert record_of(one.nic).text == record_of(told).text.replace('"index": 42', '"index": 0')


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"mac": "rubbish"}, "MAC: 'rubbish'"),
        ({"mac": None}, "no MAC"),
        ({"mac": 7}, "mac is no text"),
        ({"uuid": None}, "no INTERFACE_UUID"),
        ({"nicparams": None}, "parameters or network"),
        ({"nicparams": {"link": "", "mode": "routed"}}, "no LINK"),
        ({"nicparams": {"link": "x", "mode": "pool"}}, "MODE: 'pool'"),
        ({"nicparams": {"link": "x", "mode": "bridged", "vlan": "x"}}, "VLAN: 'x'"),
        ({"netinfo": {"name": "n", "uuid": "9696066a-7821-42d1-9e6d-aa3dcbb17b20", "tags": "x"}}, "tags are no list"),
        ({"netinfo": []}, None),
        ({"netinfo": "x"}, "parameters or network"),
    ],
)
def test_a_bad_nic_is_refused_by_name_and_the_next_is_read(change: dict[str, Any], part: str | None) -> None:
    other = NIC | {"uuid": "5b23d1aa-498b-449c-b73e-37c3b9ff8c03", "hvinfo": {}, "name": "eth1"}
    found = of(NIC | change, other)
    assert found.nics[-1].netdev == "nic-5b23d1aa-498b-449c"
    if part is None:
        assert not found.refused
        return
    ((netdev, failure),) = found.refused
    assert netdev == "nic-8ea16126-78bc-4322"
    assert proper(failure).what.startswith("i1.example.com NIC eth0: ")
    assert part in failure.what


@pytest.mark.parametrize("text", ["", "[[", "{}", "[]", "[[]]", '[[], "x"]', "[[], [1]]", "null", "7", "[" * 100_000])
def test_what_is_no_runtime_file_is_refused(text: str) -> None:
    found = outcome(lambda: instance_of("i1.example.com", text))
    assert isinstance(found, Failure)
    assert found.what.startswith("i1.example.com: its runtime file is damaged")


@given(st.text() | JSON.map(json.dumps))
def test_any_text_is_an_instance_or_a_failure(text: str) -> None:
    outcome(lambda: instance_of("i1", text))


@given(st.sampled_from(sorted(NIC)), JSON, st.sampled_from(sorted(NIC["netinfo"])), JSON)
def test_any_value_in_any_place_is_a_nic_or_a_failure(key: str, value: Any, inner: str, other: Any) -> None:
    for nic in (NIC | {key: value}, NIC | {"netinfo": NIC["netinfo"] | {inner: other}}):
        found = of(nic)
        assert len(found.nics) + len(found.refused) == 1
        for _, failure in found.refused:
            proper(failure)
