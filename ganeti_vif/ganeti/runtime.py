# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's runtime file of an instance as typed values: what its QEMU started with, and what was hot-plugged since.

`/run/ganeti/kvm-hypervisor/conf/INSTANCE.runtime` is a JSON list: QEMU's command line, NICs, hypervisor parameters,
and (not in old ones) disks. Of a NIC it has UUID, MAC, name, IP, mode, link, VLAN, and its whole network with tags
(ganeti lib/objects.py:520-523 and 2363-2377, lib/hypervisor/hv_kvm/__init__.py:1732-1744 at 3.0.2; 2.16 and 3.1 alike).
It lacks the instance's tags, and a NIC's place in it is not its index: after a hot-modify a NIC is the last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ganeti_vif.desired.adopt import Described, Instance
from ganeti_vif.engine.failure import Failure, one_line
from ganeti_vif.ganeti.environment import parse_nic

_REMEDY = "gnt-instance reboot --type=hard"
"""A restart gives the instance a new runtime file."""
_NIC = {"MAC": "mac", "INTERFACE_UUID": "uuid", "INTERFACE_NAME": "name", "IP": "ip"}
_PARAMETERS = {"MODE": "mode", "LINK": "link", "VLAN": "vlan"}
_NETWORK = {
    "NETWORK_NAME": "name",
    "NETWORK_UUID": "uuid",
    "NETWORK_SUBNET": "network",
    "NETWORK_GATEWAY": "gateway",
    "NETWORK_SUBNET6": "network6",
    "NETWORK_GATEWAY6": "gateway6",
    "NETWORK_MAC_PREFIX": "mac_prefix",
}
_REQUIRED = ("MAC", "INTERFACE_UUID", "MODE", "LINK")


def instance_of(name: str, text: str) -> Instance:
    """The instance NAME with the runtime file TEXT. Raises Failure if TEXT is no runtime file.

    A NIC that cannot be understood is a Failure in REFUSED. The other NICs are read all the same.
    """
    try:
        nics = json.loads(text)[1]
        if not isinstance(nics, list) or not all(isinstance(nic, dict) for nic in nics):
            raise ValueError("its second part is no list of NICs")
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        what = f"{one_line(name)}: its runtime file is damaged: {type(error).__name__} {error}"
        raise Failure(what, f"{_REMEDY} {one_line(name)}") from error
    described: list[Described] = []
    refused: list[tuple[str, Failure]] = []
    for number, nic in enumerate(nics):
        try:
            described.append(Described(nic=parse_nic(_environment(name, nic), lambda tap: 0), netdev=_netdev(nic)))
        except Failure as failure:
            # parse_nic() has put a name in front, with a number that means nothing here: replace it.
            told = failure.what.removeprefix(f"{name} NIC ?: ")
            refused.append((_netdev(nic), Failure(f"{one_line(name)} NIC {_called(number, nic)}: {told}", failure.do)))
    return Instance(name=name, nics=tuple(described), refused=tuple(refused))


def _environment(instance: str, nic: Mapping[str, Any]) -> dict[str, str]:
    """The environment in which Ganeti ran its network script for NIC (lib/hypervisor/hv_base.py:229-255 at 3.0.2).

    The tap is not in the file. Raises Failure if NIC lacks a value or has a wrong type.
    """
    network = nic.get("netinfo") or {}
    given = {"INSTANCE": instance, "INTERFACE": "unknown"}
    for variables, values in ((_NIC, nic), (_PARAMETERS, nic.get("nicparams")), (_NETWORK, network)):
        if not isinstance(values, Mapping):
            raise Failure(
                "its runtime file is damaged: parameters or network are no JSON object", f"{_REMEDY} {instance}"
            )
        for variable, key in variables.items():
            value = values.get(key)
            if isinstance(value, str):
                given[variable] = value
            elif value is not None:
                raise Failure(f"its runtime file is damaged: {key} is no text", f"{_REMEDY} {instance}")
    if missing := [variable for variable in _REQUIRED if not given.get(variable)]:
        raise Failure(f"its runtime file has no {missing[0]}", f"{_REMEDY} {instance}")
    tags = network.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise Failure("its runtime file is damaged: tags are no list of texts", f"{_REMEDY} {instance}")
    return given | {"NETWORK_TAGS": " ".join(tags)}


def _netdev(nic: Mapping[str, Any]) -> str:
    """QEMU's name for the NIC (_GenerateDeviceKVMId and update_hvinfo, hv_kvm/__init__.py:213-228 and 351-371)."""
    hvinfo = nic.get("hvinfo")
    if isinstance(hvinfo, Mapping) and isinstance(hvinfo.get("id"), str):
        return str(hvinfo["id"])
    groups = str(nic.get("uuid")).split("-")
    if "pci" in nic:  # of 2.15 and before
        return f"hotnic-{groups[0]}-pci-{nic['pci']}"
    return "-".join(["nic", *groups[:3]])


def _called(number: int, nic: Mapping[str, Any]) -> str:
    name = nic.get("name") or str(nic.get("uuid") or "")[:8] or f"number {number} of its file"
    return one_line(str(name))
