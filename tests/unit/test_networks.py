# SPDX-License-Identifier: BSD-2-Clause
"""Networks by Ganeti's remote API: created whole or not at all, whatever fails, whoever interrupts or dies."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from memory_rapi import CertificateError, GanetiApiError, MemoryRapi, Refused

from ganeti_vif.cluster import creator, networks, rapi
from ganeti_vif.cluster.creation import AUTO, FILTERED, UNFINISHED, Creation, Wish
from ganeti_vif.cluster.leftovers import trouble
from ganeti_vif.cluster.model import Network
from ganeti_vif.cluster.networks import Networks
from ganeti_vif.cluster.rapi import JobFailed, Rapi, Unreachable
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.interruption import RUN, Interrupted

LINKS = ("pvn1", "pvn2", "pvn3")


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(creator, "LONG", 0.2)
    monkeypatch.setattr(networks, "LONG", 0.2)
    monkeypatch.setattr(rapi, "PATIENCE", 0.02)
    yield
    RUN._wish = None


def of(client: MemoryRapi) -> Networks:
    return Networks(Rapi(client, pause=0.0001), LINKS, pause=0.001)


def wish(name: str = "internal", *groups: str, **given: object) -> Wish:
    return Wish(name=name, links=LINKS, groups=groups or ("default",), subnet="10.0.0.0/24", **given)  # type: ignore[arg-type]


@pytest.fixture
def client() -> MemoryRapi:
    return MemoryRapi()


def shown(client: MemoryRapi) -> list[tuple[str, list[str], set[str]]]:
    """Name, links and tags of every network, as it is now."""
    rows = client.now.networks.values()
    return [(row["name"], sorted({there[1] for there in row["groups"].values()}), row["tags"]) for row in rows]


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_networks_get_the_lowest_free_link_and_a_number_is_used_again(lag: int) -> None:
    client = MemoryRapi("one", "two", lag=lag)
    made = [of(client).create(wish(name, "one", "two", tags=frozenset({"nfdhcpd"}))) for name in ("a", "b", "c")]
    assert [network.links for network in made] == [{"pvn1"}, {"pvn2"}, {"pvn3"}]
    assert made[0].groups == {"one", "two"} and made[0].tags == {"nfdhcpd"} and made[0].subnet == "10.0.0.0/24"
    with pytest.raises(Failure, match="no link is free for d: all 3 are used"):
        of(client).create(wish("d"))
    of(client).destroy("b")
    assert of(client).create(wish("d", "one", "two")).links == {"pvn2"}


def test_a_name_is_used_once(client: MemoryRapi) -> None:
    of(client).create(wish())
    with pytest.raises(Failure, match="there is a network internal already"):
        of(client).create(wish())
    assert len(client.now.networks) == 1


def test_a_link_that_a_nic_names_is_not_free(client: MemoryRapi) -> None:
    client.add_instance("web.example.com", {"link": "pvn1"})
    assert of(client).create(wish()).links == {"pvn2"}


def test_networks_with_prefixes_of_their_own_share_a_link(client: MemoryRapi) -> None:
    of(client).create(wish("plain"))
    made = [of(client).create(wish(name, mac_prefix=AUTO, tags=frozenset({FILTERED}))) for name in ("a", "b", "c")]
    assert {link for network in made for link in network.links} == {"pvn2"}
    assert len({network.mac_prefix for network in made}) == 3
    assert [*trouble(of(client).cluster(), LINKS)] == []


@pytest.mark.parametrize("kind", ["CreateNetwork", "ConnectNetwork", "DeleteNetworkTags"])
@pytest.mark.parametrize(
    "fault", [Refused("no space", "insufficient_resources"), "canceled"], ids=["fails", "cancelled"]
)
def test_nothing_is_left_of_a_creation_whose_job_fails(client: MemoryRapi, kind: str, fault: Refused | str) -> None:
    client.fails[kind] = fault
    with pytest.raises(JobFailed, match="no space" if isinstance(fault, Refused) else "was cancelled") as caught:
        of(client).create(wish())
    assert caught.value.do.startswith("see: gnt-job info ")
    assert client.now.networks == {}
    assert of(client).create(wish()).links == {"pvn1"}


class Nth:
    """Raises at the request NUMBER of those that change something or all, BEFORE it reaches Ganeti or behind it."""

    def __init__(self, number: int, error: BaseException) -> None:
        self.left, self.error = number, error

    def __call__(self, _: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


def requests(groups: tuple[str, ...] = ("one", "two")) -> int:
    client = MemoryRapi(*groups)
    of(client).create(wish("internal", *groups))
    return len(client.calls)


@pytest.mark.parametrize("number", range(1, requests() + 1))
def test_repair_removes_what_a_creator_left_that_died_at_any_request(number: int) -> None:
    client = MemoryRapi("one", "two")
    of(client).create(wish("other", "one", "two"))
    client.before = Nth(number, Killed())
    with pytest.raises(Killed):
        of(client).create(wish("internal", "one", "two"))
    client.before = lambda name: None
    _repaired(client)


@pytest.mark.parametrize("number", range(1, 7))
def test_repair_removes_what_a_creator_left_that_died_before_it_had_its_answer(number: int) -> None:
    client = MemoryRapi("one", "two")
    of(client).create(wish("other", "one", "two"))
    client.behind = Nth(number, Killed())
    if number > 4:
        of(client).create(wish("internal", "one", "two"))
    else:
        with pytest.raises(Killed):
            of(client).create(wish("internal", "one", "two"))
    client.behind = lambda name: None
    _repaired(client)


def _repaired(client: MemoryRapi) -> None:
    """After repair there are whole networks only, and a link that is lost is free again."""
    [*of(client).repair(older=-1)]
    found = shown(client)
    assert found[0] == ("other", ["pvn1"], set())
    assert found[1:] in ([], [("internal", ["pvn2"], set())])
    if not found[1:]:
        assert of(client).create(wish("internal", "one", "two")).links == {"pvn2"}


def test_repair_leaves_a_creator_alone_that_may_live(client: MemoryRapi) -> None:
    client.before = Nth(12, Killed())
    with pytest.raises(Killed):
        of(client).create(wish())
    client.before = lambda name: None
    for row in client.now.networks.values():
        row["ctime"] = time.time()
    client.publish()
    assert [*of(client).repair()] == []
    assert [type(mend).__name__ for _, mend in of(client).repair(older=-1, dry_run=True)] == ["Take"]
    assert len(client.now.networks) == 1


def test_a_creator_whose_network_was_taken_by_repair_says_so(client: MemoryRapi) -> None:
    def take(name: str) -> None:
        if name == "ConnectNetwork":
            client.behind = lambda _: None
            [*of(client).repair(older=-1)]

    client.behind = take
    with pytest.raises(Failure, match="internal was taken away"):
        of(client).create(wish())
    assert client.now.networks == {}


@pytest.mark.parametrize("number", range(1, requests(("default",)) + 1))
def test_nothing_is_left_of_a_creation_that_is_interrupted(client: MemoryRapi, number: int) -> None:
    class Asks(Nth):
        def __call__(self, name: str) -> None:
            self.left -= 1
            if self.left == 0:
                RUN.end("SIGINT")

    client.before = Asks(number, Killed())
    try:
        of(client).create(wish())
    except Interrupted:
        assert client.now.networks == {}
    else:
        assert shown(client) == [("internal", ["pvn1"], set())]


def test_a_job_that_hangs_is_cancelled_by_an_interruption(client: MemoryRapi) -> None:
    client.fails["ConnectNetwork"] = "stuck"

    def ask(name: str) -> None:
        if name == "GetJobStatus" and "ConnectNetwork" in client.calls:
            client.before = lambda _: None
            RUN.end("SIGINT")

    client.before = ask
    with pytest.raises(Interrupted):
        of(client).create(wish())
    assert "CancelJob" in client.calls
    assert client.now.networks == {}


def test_a_remote_api_that_goes_away_leaves_a_marked_network_and_its_repair_is_named(client: MemoryRapi) -> None:
    def away(name: str) -> None:
        if "ConnectNetwork" in client.calls:
            raise GanetiApiError("Connection refused", 7)

    client.before = away
    with pytest.raises(Failure) as caught:
        of(client).create(wish())
    assert "the unfinished network internal may be left" in caught.value.what
    assert caught.value.do == "ganeti-vif network repair"
    client.before = lambda name: None
    [*of(client).repair(older=-1)]
    assert client.now.networks == {}


def test_a_job_is_followed_through_a_short_silence(client: MemoryRapi) -> None:
    failures = iter([GanetiApiError("Connection refused", 7)])

    def away(name: str) -> None:
        if name == "GetJobStatus" and (error := next(failures, None)):
            raise error

    client.before = away
    assert of(client).create(wish()).links == {"pvn1"}


@pytest.mark.parametrize(
    ("error", "kind", "what"),
    [
        (GanetiApiError("(7, 'Failed to connect')", 7), Unreachable, "does not answer: (7, 'Failed to connect')"),
        (GanetiApiError("401 Unauthorized", 401), Failure, "does not accept this name and password"),
        (GanetiApiError("403 Forbidden", 403), Failure, "may not make changes"),
        (GanetiApiError("400 Bad Request: &quot;x&quot;", 400), Failure, 'refused the request: 400 Bad Request: "x"'),
        (
            CertificateError("certificate has expired", 60),
            Failure,
            "has expired, or is not the one that is expected: certificate has expired",
        ),
    ],
)
def test_errors_of_the_remote_api_have_two_lines(
    client: MemoryRapi, error: Exception, kind: type[Failure], what: str
) -> None:
    client.before = Nth(1, error)
    with pytest.raises(kind) as caught:
        of(client).cluster()
    assert what in caught.value.what


def test_connect_and_disconnect_the_first_of_three_nics(client: MemoryRapi) -> None:
    client.add_instance("web.example.com", {"link": "br0"})
    made = [of(client).create(wish(name)) for name in ("a", "b")]
    first = of(client).connect("web", "a", nic="lan")
    assert (first.nic.index, first.nic.network, first.nic.name, first.reboot) == (1, made[0].uuid, "lan", False)
    of(client).connect("web.example.com", "b", ip="")
    gone = of(client).disconnect("web", "a")
    assert gone.nic.uuid == first.nic.uuid and not gone.reboot
    assert [(nic.index, nic.network) for nic in of(client).cluster().nics] == [(0, ""), (1, made[1].uuid)]
    with pytest.raises(Failure, match=r"web\.example\.com has no such NIC in a"):
        of(client).disconnect("web", "a")


@pytest.mark.parametrize("version", ["3.0.2", "3.1.0~rc2", "3.1.1"])
def test_each_version_of_ganeti_plugs_into_a_running_guest(version: str) -> None:
    client = MemoryRapi(version=version)
    client.add_instance("web.example.com")
    of(client).create(wish())
    assert not of(client).connect("web", "internal").reboot
    assert "RebootInstance" not in client.calls


@pytest.mark.parametrize(("up", "hotplug", "reboot"), [(True, "hotplug:failed", True), (False, "", False)])
def test_a_guest_that_cannot_be_plugged_into_needs_a_reboot(up: bool, hotplug: str, reboot: bool) -> None:
    client = MemoryRapi(hotplug=hotplug)
    client.add_instance("web.example.com", up=up)
    of(client).create(wish())
    assert of(client).connect("web", "internal").reboot is reboot
    assert not of(client).disconnect("web", "internal", reboot=True).reboot
    assert ("RebootInstance" in client.calls) is reboot


def test_an_instance_is_in_a_network_once(client: MemoryRapi) -> None:
    client.add_instance("web.example.com")
    of(client).create(wish())
    of(client).connect("web", "internal")
    with pytest.raises(Failure, match="is in internal already"):
        of(client).connect("web", "internal")


def test_one_of_several_nics_in_a_network_is_named(client: MemoryRapi) -> None:
    uuid = of(client).create(wish()).uuid
    client.add_instance("web.example.com", {"network": uuid, "ip": "10.0.0.2"}, {"network": uuid, "ip": "10.0.0.3"})
    with pytest.raises(Failure, match="has 2 NICs in internal") as caught:
        of(client).disconnect("web", "internal")
    assert "--nic" in caught.value.do
    assert of(client).disconnect("web", "internal", nic="10.0.0.2").nic.index == 0


def test_a_network_in_use_is_not_destroyed_unless_its_nics_may_go(client: MemoryRapi) -> None:
    client.add_instance("web.example.com")
    of(client).create(wish())
    of(client).connect("web", "internal")
    with pytest.raises(Failure, match=r"internal is in use by web\.example\.com NIC 0 \(10\.0\.0\.9\)"):
        of(client).destroy("internal")
    assert shown(client) == [("internal", ["pvn1"], set())]
    of(client).destroy("internal", disconnect=True)
    assert client.now.networks == {} and client.now.instances["web.example.com"]["nics"] == []


def test_a_nic_that_comes_while_its_network_goes_keeps_it(client: MemoryRapi) -> None:
    client.add_instance("web.example.com")
    uuid = of(client).create(wish()).uuid

    def come(name: str) -> None:
        if name == "AddNetworkTags":
            client.add_instance("web.example.com", {"network": uuid})

    client.behind = come
    with pytest.raises(JobFailed, match="Conflicting"):
        of(client).destroy("internal")
    assert shown(client) == [("internal", ["pvn1"], set())]


@pytest.mark.parametrize("number", range(1, 20))
def test_repair_does_what_is_left_of_a_destroy(number: int) -> None:
    client = MemoryRapi("one", "two")
    client.add_instance("web.example.com")
    of(client).create(wish("internal", "one", "two"))
    of(client).connect("web", "internal")
    client.before = Nth(number, Killed())
    try:
        of(client).destroy("internal", disconnect=True)
    except Killed:
        client.before = lambda name: None
        [*of(client).repair()]
        in_use = bool(client.now.instances["web.example.com"]["nics"])
        # Nothing was done before the mark was set; with the mark it goes, unless it has a NIC.
        assert shown(client) in ([("internal", ["pvn1"], set())] if in_use else [], [("internal", ["pvn1"], set())])
        assert not any(UNFINISHED in tags for _, _, tags in shown(client))


def test_what_is_unfinished_gets_no_nic(client: MemoryRapi) -> None:
    client.add_instance("web.example.com")
    uuid = of(client).create(wish()).uuid
    client.now.networks[uuid]["tags"] |= set(Creation(wish=wish(), nonce="00").tags)
    client.publish()
    for verb in (lambda: of(client).connect("web", "internal"), lambda: of(client).destroy("internal")):
        with pytest.raises(Failure, match="is unfinished") as caught:
            verb()
        assert "ganeti-vif network repair" in caught.value.do


def test_networks_of_one_name_are_named_by_uuid(client: MemoryRapi) -> None:
    uuids = [of(client).create(wish(name)).uuid for name in ("a", "b")]
    client.now.networks[uuids[1]]["name"] = "a"
    client.publish()
    with pytest.raises(Failure, match="2 networks have the name a"):
        of(client).destroy("a")
    assert [failure.what for failure in trouble(of(client).cluster(), LINKS)] == ["2 networks have the name a"]
    assert of(client).destroy(uuids[1]).uuid == uuids[1]


def test_two_networks_on_one_link_are_told(client: MemoryRapi) -> None:
    uuids = [of(client).create(wish(name)).uuid for name in ("a", "b")]
    client.now.networks[uuids[1]]["groups"] = {"default": ["bridged", "pvn1", ""]}
    client.add_instance("web.example.com", {"link": "pvn1"})
    said = [failure.what for failure in trouble(of(client).cluster(), LINKS)]
    assert said == [
        "the networks a, b have the same link pvn1: their guests see each other",
        "web.example.com NIC 0 names the link pvn1 without a network, and the network a has that link",
    ]


def test_jobs_are_told_as_they_go(client: MemoryRapi) -> None:
    said: list[str] = []
    Networks(Rapi(client, said.append, pause=0.0001), LINKS, pause=0.001).create(wish())
    assert said[0] == "job 1 (add internal): running: working"
    assert any("connect internal to pvn1 in default" in line for line in said)


def test_a_missing_client_is_an_error_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from ganeti_vif.cluster.credentials import Credentials

    monkeypatch.setitem(sys.modules, "ganeti.rapi", None)  # type: ignore[misc]
    with pytest.raises(Failure, match="the client of Ganeti's remote API is missing") as caught:
        rapi.connect(Credentials("user", "secret"))
    assert caught.value.do == "apt install python3-ganeti-rapi"


def test_a_network_is_one_value() -> None:
    assert Network(uuid="1", name="a").links == frozenset()
