# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's remote API (RAPI): what it shows, as data, and what it does, as jobs that are followed.

The client is Debian's python3-ganeti-rapi. Nothing else imports it, and it is imported when it is needed: an attach has
nothing to do with it.

What the remote API does that nobody expects, at 3.0.2, and what is done about it:

* To connect a connected network to another link is a success that changes nothing. So a creator reads back.
* Its answers may be older than the last job, for up to a second. So a reader waits until it sees its own changes.
* It knows a network by its name or by its UUID, and names are not unique. So everything here uses UUIDs.
* Ganeti 3.0 plugs into running guests with `hotplug_if_possible` only. 3.1 does it by default, and refuses that word.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any, TypeVar

from ganeti_vif.cluster.credentials import Credentials
from ganeti_vif.cluster.model import Cluster, Connection, Instance, Network, Nic
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.interruption import RUN

HOST, PORT = "127.0.0.1", 5080
CERTIFICATE = "/var/lib/ganeti/rapi.pem"
"""The certificate of the remote API, on each node: signed by itself, the same on all of them."""
CONNECT_TIMEOUT, TIMEOUT = 10, 120
"""Seconds."""
PATIENCE = 30.0
"""Seconds for which a job is still followed while the remote API does not answer: during a failover of the master."""
INSTANCE = (
    "name",
    "admin_state",
    "nic.uuids",
    "nic.names",
    "nic.macs",
    "nic.ips",
    "nic.modes",
    "nic.links",
    "nic.networks",
)
"""What is asked of instances. All of it is in the configuration, so no node is asked, and none is waited for."""
FINAL = ("success", "error", "canceled")

T = TypeVar("T")
Progress = Callable[[str], None]
Outcome = Sequence[tuple[str, str]]
"""What a change of an instance did, as pairs such as ("nic.1", "hotplug:done")."""


class Unreachable(Failure):
    """The remote API does not answer."""


class JobFailed(Failure):
    """A job ended without success. CODE is Ganeti's word for the reason, as `unknown_entity`, or empty."""

    def __init__(self, what: str, do: str, code: str = "") -> None:
        super().__init__(what, do)
        self.code = code


@dataclass(frozen=True, slots=True)
class Job:
    """A job of Ganeti's: its NUMBER, and WHAT it does."""

    number: int
    what: str


def connect(credentials: Credentials, host: str = "", port: int = PORT, certificate: str = "") -> Any:
    """A client of the remote API at HOST (default: this node, which must be the master).

    CERTIFICATE is a file with the certificate of the remote API, or of who signed it. Without it, another HOST needs a
    certificate that this system trusts and that has its name. Raises Failure if the client is not installed.
    """
    try:
        from ganeti.rapi import client
    except ImportError as error:
        raise Failure(
            f"the client of Ganeti's remote API is missing: {error}", "apt install python3-ganeti-rapi"
        ) from error
    file = certificate or ("" if host else CERTIFICATE)
    config = client.GenericCurlConfig(
        use_curl_cabundle=not file,
        cafile=file or None,
        verify_hostname=not file,  # who has that certificate is the cluster, whatever the name by which it is called
        connect_timeout=CONNECT_TIMEOUT,
        timeout=TIMEOUT,
        proxy="",
    )
    return client.GanetiRapiClient(
        host or HOST, port=port, username=credentials.name, password=credentials.password, curl_config_fn=config
    )


class Rapi:
    """The remote API at PLACE (HOST:PORT), behind a CLIENT. PROGRESS is told how the job in work is going.

    Every method raises Unreachable, or Failure if the remote API refuses the request. A method that runs a job raises
    JobFailed if it fails, and Interrupted if somebody wants this process to end; the job goes on then, see `going`.
    """

    def __init__(
        self, client: Any, progress: Progress = lambda _: None, *, place: str = f"{HOST}:{PORT}", pause: float = 0.1
    ) -> None:
        self._client, self._progress, self._place, self._pause = client, progress, place, pause
        self.going: Job | None = None
        """The job that was submitted last, until its end was seen."""
        self.patient = False
        """Whether nobody may interrupt it: what is undone is undone to its end."""
        self._version: tuple[int, ...] = ()

    def cluster(self) -> Cluster:
        """What Ganeti has now, or had a moment ago."""
        groups = self._call(lambda: self._client.GetGroups(bulk=False))
        networks = self._call(lambda: self._client.GetNetworks(bulk=True))
        rows = self._call(lambda: self._client.Query("instance", list(INSTANCE)))["data"]
        instances = [dict(zip(INSTANCE, (value for _, value in row), strict=True)) for row in rows]
        return Cluster(
            networks=tuple(sorted(map(_network, networks), key=lambda one: (one.name, one.uuid))),
            nics=tuple(nic for row in instances for nic in _nics(row)),
            instances=tuple(Instance(name=row["name"], up=row["admin_state"] == "up") for row in instances),
            groups=tuple(groups),
        )

    def add(self, name: str, *, tags: Sequence[str], **fields: str) -> None:
        """Add a network. FIELDS: network, gateway, network6, gateway6, mac_prefix; an empty one is left out."""
        given = {field: value for field, value in fields.items() if value}
        self._run(f"add {name}", lambda: self._client.CreateNetwork(name, tags=",".join(tags), **given))

    def connect(self, network: Network, group: str, link: str) -> None:
        """Connect NETWORK to LINK in GROUP. Success does not mean that it is connected there: read back."""
        what = f"connect {network.name} to {link} in {group}"
        self._run(what, lambda: self._client.ConnectNetwork(network.uuid, group, "bridged", link))

    def disconnect(self, network: Network, group: str) -> None:
        """Disconnect NETWORK from GROUP. It is a success if it is not connected."""
        what = f"disconnect {network.name} from {group}"
        self._run(what, lambda: self._client.DisconnectNetwork(network.uuid, group))

    def remove(self, network: Network) -> None:
        """Remove NETWORK, which is not connected any more. It is a success if somebody else removed it."""
        try:
            self._run(f"remove {network.name}", lambda: self._client.DeleteNetwork(network.uuid))
        except JobFailed as failure:
            if failure.code != "unknown_entity":
                raise

    def tag(self, network: Network, *tags: str) -> None:
        """Add TAGS to NETWORK."""
        self._run(f"tag {network.name}", lambda: self._client.AddNetworkTags(network.uuid, list(tags)))

    def untag(self, network: Network, *tags: str) -> bool:
        """Remove TAGS of NETWORK, all or none. Returns whether all were there: then nobody else removed them."""
        try:
            self._run(f"untag {network.name}", lambda: self._client.DeleteNetworkTags(network.uuid, list(tags)))
        except JobFailed as failure:
            if failure.code == "unknown_entity":
                return False
            raise
        return True

    def add_nic(self, instance: str, network: Network, *, ip: str, name: str) -> Outcome:
        """Add a NIC in NETWORK to INSTANCE, with the address IP (`pool`: a free one; empty: none)."""
        nic = {"network": network.uuid} | ({"ip": ip} if ip else {}) | ({"name": name} if name else {})
        return self._modify(f"connect {instance} to {network.name}", instance, ["add", -1, nic])

    def remove_nic(self, nic: Nic) -> Outcome:
        """Remove NIC, wherever it is in the order of its instance's NICs."""
        return self._modify(f"remove {nic.whom}", nic.instance, ["remove", nic.uuid, {}])

    def reboot(self, instance: str) -> None:
        """Reboot INSTANCE, so that its guest gets the NICs that Ganeti has for it."""
        self._run(f"reboot {instance}", lambda: self._client.RebootInstance(instance, reboot_type="hard"))

    def _modify(self, what: str, instance: str, change: list[Any]) -> Outcome:
        if not self._version:
            said = str(self._call(self._client.GetInfo)["software_version"])
            self._version = tuple(int(part) for part in said.split("~")[0].split(".")[:2])
        hotplug = {"hotplug_if_possible": True} if self._version < (3, 1) else {}
        result = self._run(what, lambda: self._client.ModifyInstance(instance, nics=[change], **hotplug))
        return [(str(key), str(value)) for key, value in (result[0] or [] if result else [])]

    def _run(self, what: str, submit: Callable[[], Any]) -> list[Any]:
        """Submit a job and follow it to its end. Returns the results of its parts."""
        with RUN.busy():  # an answer that is lost would leave a job of which nobody knows the number
            self.going = Job(int(self._call(submit)), what)
        return self.follow(self.going)

    def follow(self, job: Job) -> list[Any]:
        """Follow JOB to its end. Returns the results of its parts."""
        pause = self._pause
        while (answer := self._status(job))["status"] not in FINAL:
            self._progress(f"job {job.number} ({job.what}): {answer['status']}{_last(answer)}")
            self._due()
            time.sleep(pause)
            pause = min(pause * 1.2, 10 * self._pause)
        self.going = None
        if answer["status"] == "success":
            return list(answer["opresult"])
        text, code = _reason(answer)
        do = f"see: gnt-job info {job.number}"
        if answer["status"] == "canceled":
            raise JobFailed(f"job {job.number} ({job.what}) was cancelled", do)
        raise JobFailed(f"job {job.number} ({job.what}) failed: {text}", do, code)

    def cancel(self) -> bool:
        """Cancel the job that is going, if that is possible still, and wait for its end. Returns if it succeeded."""
        if self.going is None:
            return False
        job = self.going
        self._call(lambda: self._client.CancelJob(job.number))
        self.patient = True
        try:
            self.follow(job)
        except JobFailed:
            return False
        finally:
            self.patient = False
        return True

    def _due(self) -> None:
        if not self.patient:
            RUN.due()

    def _status(self, job: Job) -> dict[str, Any]:
        """The state of JOB. It outlives a failover of the master, so the question is repeated for PATIENCE."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                answer: dict[str, Any] = self._call(lambda: self._client.GetJobStatus(job.number))
                return answer
            except Unreachable as failure:
                if time.monotonic() > end:
                    what = f"{failure.what}; job {job.number} ({job.what}) goes on without us"
                    raise Unreachable(what, f"see: gnt-job watch {job.number}") from failure
                self._progress(f"job {job.number} ({job.what}): {failure.what}")
                self._due()
                time.sleep(10 * self._pause)

    def _call(self, ask: Callable[[], T]) -> T:
        """The answer to one request. The client's errors have codes: HTTP's from 400 on, libcurl's below 100."""
        try:
            return ask()
        except Exception as error:
            # The client may not be there, so its classes are known by their names.
            name, code = type(error).__name__, getattr(error, "code", None)
            if name == "CertificateError":  # libcurl with GnuTLS says the same of an expired one and of a strange one
                what = (
                    f"the certificate of Ganeti's remote API has expired, or is not the one that is expected: {error}"
                )
                do = f"see: echo | openssl s_client -connect {self._place} | openssl x509 -noout -subject -dates"
                raise Failure(what, do) from error
            if name != "GanetiApiError":
                raise
            raise _refused(code or 0, unescape(str(error))) from error


def _refused(code: int, text: str) -> Failure:
    match code:
        case 401:
            return Failure("Ganeti's remote API does not accept this name and password", _PASSWORD)
        case 403:
            return Failure("this user of Ganeti's remote API may not make changes", _PASSWORD)
        case code if code < 100 or code in (502, 503, 504):
            return Unreachable(f"Ganeti's remote API does not answer: {text}", "see: service ganeti status")
        case _:
            return Failure(f"Ganeti's remote API refused the request: {text}", "note: it ran no job")


_PASSWORD = "see: cat /var/lib/ganeti/rapi/users"


def _last(answer: dict[str, Any]) -> str:
    """The last line of a job's log, with a colon before it."""
    lines = [entry for part in answer.get("oplog") or [] for entry in part or []]
    return f": {lines[-1][-1]}" if lines else ""


def _reason(answer: dict[str, Any]) -> tuple[str, str]:
    """Why a job failed: Ganeti's text and its code. A part of a failed job has [CLASS, [TEXT, CODE]] as its result."""
    for status, result in zip(answer["opstatus"], answer["opresult"], strict=True):
        if status == "error" and isinstance(result, list) and len(result) == 2 and isinstance(result[1], list):
            said = result[1]
            return str(said[0]) if said else str(result[0]), str(said[1]) if len(said) > 1 else ""
        if status == "error":
            return str(result), ""
    return "Ganeti says no reason", ""


def _network(row: dict[str, Any]) -> Network:
    connections = [Connection(group=one[0], mode=one[1], link=one[2]) for one in row["group_list"] or ()]
    return Network(
        uuid=row["uuid"],
        name=row["name"],
        subnet=row["network"] or "",
        gateway=row["gateway"] or "",
        subnet6=row["network6"] or "",
        gateway6=row["gateway6"] or "",
        mac_prefix=row["mac_prefix"] or "",
        tags=frozenset(row["tags"] or ()),
        connections=tuple(connections),
        ctime=float(row["ctime"] or 0),
    )


def _nics(row: dict[str, Any]) -> list[Nic]:
    columns = zip(*(row[field] for field in INSTANCE[2:]), strict=True)
    return [
        Nic(
            uuid=uuid,
            instance=row["name"],
            index=index,
            **{key: value or "" for key, value in zip(_NIC, rest, strict=True)},
        )
        for index, (uuid, *rest) in enumerate(columns)
    ]


_NIC = ("name", "mac", "ip", "mode", "link", "network")
