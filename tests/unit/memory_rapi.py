# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's remote API in memory, as python3-ganeti-rapi shows it, with the traps of the real one:

* answers may be as old as the last changes (`lag`);
* names of networks are no lock, and a tag is removed by one only;
* connecting a connected network is a success that changes nothing;
* 3.0 and 3.1 name hotplug differently, and refuse what they do not know.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
NIC = ("uuid", "name", "mac", "ip", "mode", "link", "network")


class GanetiApiError(Exception):
    """The client's error: CODE is HTTP's or libcurl's."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class CertificateError(GanetiApiError):
    """The client's error for a certificate."""


class Refused(Exception):
    """A job that fails, with Ganeti's code."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Configuration:
    networks: dict[str, Row] = field(default_factory=dict)
    instances: dict[str, Row] = field(default_factory=dict)


class MemoryRapi:
    """A client with a cluster behind it. `before` and `behind` are called with each request's name, and may raise."""

    def __init__(self, *groups: str, version: str = "3.0.2", lag: int = 0, hotplug: str = "hotplug:done") -> None:
        self.groups, self.version, self.lag, self.hotplug = groups or ("default",), version, lag, hotplug
        self.now = Configuration()
        self._shown = [copy.deepcopy(self.now)]
        self._at = 0
        self._jobs: dict[int, Row] = {}
        self._uuids = 0
        self.calls: list[str] = []
        self.before: Callable[[str], None] = lambda name: None
        self.behind: Callable[[str], None] = lambda name: None
        self.fails: dict[str, Refused | str] = {}
        """What becomes of the next job of a kind: it fails so, or it is `canceled`, or `stuck` until it is cancelled."""

    def add_instance(self, name: str, *nics: Row, up: bool = True) -> None:
        self.now.instances[name] = {"up": up, "nics": [self._nic(**nic) for nic in nics]}
        self.publish()

    def publish(self) -> None:
        """Show what is now."""
        self._shown.append(copy.deepcopy(self.now))

    def _nic(self, **given: Any) -> Row:
        self._uuids += 1
        return {
            "uuid": f"nic{self._uuids}", "name": None, "mac": f"aa:00:00:00:00:{self._uuids:02x}", "ip": None,
            "mode": "bridged", "link": "br0", "network": None,
        } | given  # fmt: skip

    # What is asked

    def _read(self, name: str) -> Configuration:
        self._request(name)
        newest = len(self._shown) - 1
        self._at = min(max(self._at + 1, newest - self.lag), newest) if self.lag else newest
        return self._shown[self._at]

    def _request(self, name: str) -> None:
        self.calls.append(name)
        self.before(name)

    def GetInfo(self) -> Row:  # noqa: N802
        self._request("GetInfo")
        return {"software_version": self.version}

    def GetGroups(self, *, bulk: bool) -> list[str]:  # noqa: N802
        assert not bulk
        self._request("GetGroups")
        return list(self.groups)

    def GetNetworks(self, *, bulk: bool) -> list[Row]:  # noqa: N802
        assert bulk
        return [
            {key: row.get(key) for key in ("network", "gateway", "network6", "gateway6", "mac_prefix", "ctime")}
            | {"uuid": uuid, "name": row["name"], "tags": sorted(row["tags"])}
            | {"group_list": [[group, *there] for group, there in row["groups"].items()]}
            for uuid, row in self._read("GetNetworks").networks.items()
        ]

    def Query(self, what: str, fields: list[str]) -> Row:  # noqa: N802
        assert what == "instance"
        rows = []
        for name, row in self._read("Query").instances.items():
            values: Row = {"name": name, "admin_state": "up" if row["up"] else "down"}
            values |= {f"nic.{key}s": [nic[key] for nic in row["nics"]] for key in NIC}
            rows.append([[0, values[one]] for one in fields])
        return {"data": rows}

    def GetJobStatus(self, number: int) -> Row:  # noqa: N802
        self._request("GetJobStatus")
        job = self._jobs[number]
        if not job["seen"]:
            job["seen"] = True
            return job | {"status": "running"}
        return job

    # What is done

    def _job(self, name: str, work: Callable[[], Any]) -> str:
        self._request(name)
        status, result = "success", None
        fault = self.fails.pop(name, None)
        try:
            if isinstance(fault, Refused):
                raise fault
            if fault is None:
                result = work()
            else:
                status = fault
        except Refused as refused:
            status, result = "error", ["OpPrereqError", [str(refused), refused.code]]
        number = len(self._jobs) + 1
        self._jobs[number] = {
            "status": "running" if status == "stuck" else status, "opstatus": [status], "opresult": [result],
            "oplog": [[[1, [0, 0], "message", "working"]]], "seen": False,
        }  # fmt: skip
        self.publish()
        self.behind(name)
        return str(number)

    def CancelJob(self, number: int) -> list[Any]:  # noqa: N802
        self._request("CancelJob")
        if self._jobs[number]["status"] == "running":
            self._jobs[number]["status"] = "canceled"
        return [True, ""]

    def _network(self, uuid: str) -> Row:
        if uuid not in self.now.networks:
            raise Refused(f"Network '{uuid}' not found", "unknown_entity")
        row: Row = self.now.networks[uuid]
        return row

    def CreateNetwork(self, name: str, network: str | None = None, *, tags: str, **given: str) -> str:  # noqa: N802
        def work() -> None:
            self._uuids += 1
            row: Row = {"name": name, "network": network, "tags": set(tags.split(",")), "groups": {}, "ctime": 0.0}
            self.now.networks[f"uuid{self._uuids:04}"] = row | given

        return self._job("CreateNetwork", work)

    def ConnectNetwork(self, uuid: str, group: str, mode: str, link: str) -> str:  # noqa: N802
        def work() -> None:
            self._network(uuid)["groups"].setdefault(group, [mode, link, ""])

        return self._job("ConnectNetwork", work)

    def DisconnectNetwork(self, uuid: str, group: str) -> str:  # noqa: N802
        def work() -> None:
            used = any(nic["network"] == uuid for one in self.now.instances.values() for nic in one["nics"])
            if used and group in self._network(uuid)["groups"]:
                raise Refused("Conflicting IP addresses found;  remove/modify the NICs", "wrong_state")
            self._network(uuid)["groups"].pop(group, None)

        return self._job("DisconnectNetwork", work)

    def DeleteNetwork(self, uuid: str) -> str:  # noqa: N802
        def work() -> None:
            if self._network(uuid)["groups"]:
                raise Refused("Network still connected", "wrong_state")
            del self.now.networks[uuid]

        return self._job("DeleteNetwork", work)

    def AddNetworkTags(self, uuid: str, tags: list[str]) -> str:  # noqa: N802
        return self._job("AddNetworkTags", lambda: self._network(uuid)["tags"].update(tags))

    def DeleteNetworkTags(self, uuid: str, tags: list[str]) -> str:  # noqa: N802
        def work() -> None:
            if not self._network(uuid)["tags"].issuperset(tags):
                raise Refused("Tag(s) not found", "unknown_entity")
            self._network(uuid)["tags"].difference_update(tags)

        return self._job("DeleteNetworkTags", work)

    def ModifyInstance(self, instance: str, *, nics: list[Any], **more: Any) -> str:  # noqa: N802
        if set(more) - ({"hotplug_if_possible"} if self.version < "3.1" else {"hotplug"}):
            raise GanetiApiError(f"400 Bad Request: unknown parameters {sorted(more)}", 400)
        plugs = self.version >= "3.1" or more.get("hotplug_if_possible")

        def work() -> list[list[str]]:
            row = self.now.instances[instance]
            ((verb, which, given),) = nics
            if verb == "add":
                given = given | {"link": next(iter(self._network(given["network"])["groups"].values()))[1]}
                given |= {"ip": "10.0.0.9"} if given.get("ip") == "pool" else {}
                row["nics"].append(self._nic(**given))
            else:
                if which not in [nic["uuid"] for nic in row["nics"]]:
                    raise Refused(f"Cannot find NIC {which}", "unknown_entity")
                row["nics"] = [nic for nic in row["nics"] if nic["uuid"] != which]
            return [["nic.0", verb], *([["nic.0", self.hotplug]] if plugs and row["up"] else [])]

        return self._job("ModifyInstance", work)

    def RebootInstance(self, instance: str, *, reboot_type: str) -> str:  # noqa: N802
        assert reboot_type == "hard" and instance in self.now.instances
        return self._job("RebootInstance", lambda: None)
