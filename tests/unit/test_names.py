# SPDX-License-Identifier: BSD-2-Clause
"""The names of instances: what [names] may say, which names there are, and whose they are at a DNS server."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest
from samples import BRIDGED, CONFIG, ROUTED, nic_of, proper

from ganeti_vif.config.model import Config, Names
from ganeti_vif.config.names import EXAMPLES, PARSERS
from ganeti_vif.config.parse import parse
from ganeti_vif.daemon import publish
from ganeti_vif.desired.names import HEADER, Entry, Mark, Owned, entries, hosts, mark_of, nameless, owned, update
from ganeti_vif.engine.failure import Failure

SERVER = "[names]\nserver = 192.0.2.53\nzone = example.com\nkey-file = /etc/k\n"
NAMES = Names(zone="example.com", reverse_zones=("77.10.in-addr.arpa", "1.77.10.in-addr.arpa"))


def refused(text: str) -> Failure:
    with pytest.raises(Failure) as caught:
        parse(text, "/etc/x.conf")
    return proper(caught.value)


def test_without_the_section_nothing_is_written() -> None:
    assert not parse("[daemon]\n").names.wanted
    assert parse("[names]\nhosts-file = /srv/names\n").names == Names(hosts_file="/srv/names")
    assert parse(SERVER).names.wanted
    assert parse(SERVER.replace("192.0.2.53", "::1")).names.wanted


@pytest.mark.parametrize("key", sorted(PARSERS))
def test_an_example_is_right(key: str) -> None:
    if key in EXAMPLES:
        PARSERS[key](EXAMPLES[key])


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("[names]\nhosts-file = hosts\n", 2, "no absolute path"),
        ("[names]\nhosts-file = /var/lib/../hosts\n", 2, "no absolute path"),
        ("[names]\nhosts-file = /etc/hosts\n", 2, "forbids it to write below /etc"),
        ("[names]\nhosts-file = /tmp/hosts\n", 2, "forbids it to write below /tmp"),
        ("[names]\nhosts-file = /var/lib/.hosts\n", 2, "begins with a dot"),
        ("[names]\nhosts-file = /var/lib/x\nport = 53\n", 3, "unknown key 'port'"),
        ("[names]\nzone = example.com\n", 2, "zone without 'server'"),
        ("[names]\nkey-file = /etc/k\n", 2, "key-file without 'server'"),
        ("[names]\nserver = 192.0.2.53\nzone = example.com\n", 2, "without 'key-file'"),
        ("[names]\nserver = 192.0.2.53\nkey-file = /etc/k\n", 2, "without 'zone'"),
        (SERVER.replace("192.0.2.53", "ns.example.com"), 2, "server"),
        (SERVER.replace("192.0.2.53", "::1%x"), 2, "server"),
        (SERVER.replace("192.0.2.53", "0.0.0.0"), 2, "no address that a host can have"),
        (SERVER.replace("example.com", "-"), 3, "no domain name"),
        (f"{SERVER}reverse-zones = 192.0.2.0/24\n", 5, "no domain name"),
        (f"{SERVER}reverse-zones = example.org\n", 5, "no reverse zone such as"),
        (f"{SERVER}ttl = 0\n", 5, "no number"),
        (f"{SERVER}ipv6 = maybe\n", 5, "neither yes nor no"),
        (f"{SERVER}links =\n", 5, "no link"),
        (f"{SERVER}[names]\nipv6 = no\n", 0, "[names] comes twice"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, what: str) -> None:
    said = refused(text).what
    assert what in said
    assert not line or said.startswith(f"/etc/x.conf:{line}: ")


def names_in(config: Config, **changes: str | None) -> set[str]:
    return {f"{one.address} {one.name}" for one in entries([nic_of(ROUTED, **changes)], config)}


def test_an_instance_has_its_own_addresses_on_public_links() -> None:
    own = {"10.77.1.2 i1.example.com", "2001:db8:77:0:a800:9ff:fe09:6336 i1.example.com"}
    assert names_in(CONFIG) == own
    granted = {"TAGS": "vif:eth0:address:10.77.1.8/29 vif:eth0:address:10.77.1.99"}
    assert names_in(CONFIG, **granted) == own
    assert names_in(replace(CONFIG, names=Names(ipv6=False))) == {"10.77.1.2 i1.example.com"}
    assert names_in(CONFIG, LINK="222") == own, "the number of its table means the same link"
    assert names_in(CONFIG, LINK="other") == set()
    assert entries([nic_of(BRIDGED)], CONFIG) == set()


def test_links_can_be_chosen() -> None:
    config = replace(CONFIG, names=Names(links=("br0",), ipv6=False))
    assert entries([nic_of(BRIDGED)], config) == {Entry("i1.example.com", IPv4Address("10.9.0.2"))}
    assert names_in(config) == set()
    assert names_in(replace(CONFIG, names=Names(links=("rt_pub",))), LINK="222")


def test_an_instance_whose_name_is_no_domain_name_is_told_of() -> None:
    for name in ("a b", "a\n192.0.2.1 gateway", "-a", "a..b", "a.", '"'):
        nic = replace(nic_of(ROUTED), instance=name)
        assert entries([nic], CONFIG) == set()
        assert "gets no name in DNS" in proper(nameless([nic], CONFIG)[0]).what
    assert nameless([nic_of(ROUTED)], CONFIG) == []


def test_equal_entries_make_equal_files() -> None:
    found = [
        Entry("b.x", ip_address("10.0.0.10")),
        Entry("b.x", ip_address("10.0.0.9")),
        Entry("a.x", ip_address("::1")),
    ]
    assert hosts(found) == hosts(found[::-1]) == f"{HEADER}::1 a.x\n10.0.0.9 b.x\n10.0.0.10 b.x\n"


def test_the_records_are_in_the_zones_that_are_there() -> None:
    found = [
        Entry("i1.example.com", ip_address("10.77.1.2")),
        Entry("i1.example.com", ip_address("10.78.1.2")),
        Entry("i1.example.com", ip_address("2001:db8::1")),
        Entry("short", ip_address("10.77.2.2")),
        Entry("i2.example.org", ip_address("10.77.1.3")),
        Entry("i3.notexample.com", ip_address("10.78.1.3")),
    ]
    assert set(owned(found, NAMES).values()) == {
        Owned("example.com", "i1.example.com", ("A 10.77.1.2", "A 10.78.1.2", "AAAA 2001:db8::1")),
        Owned("1.77.10.in-addr.arpa", "2.1.77.10.in-addr.arpa", ("PTR i1.example.com.",)),
        Owned("example.com", "short.example.com", ("A 10.77.2.2",)),
        Owned("77.10.in-addr.arpa", "2.2.77.10.in-addr.arpa", ("PTR short.example.com.",)),
        Owned("1.77.10.in-addr.arpa", "3.1.77.10.in-addr.arpa", ("PTR i2.example.org.",)),
    }


def test_a_mark_survives_the_way_to_the_server() -> None:
    mark = Mark("node1", ("A 192.0.2.5", "AAAA 2001:db8::5"))
    assert mark_of(mark.strings) == mark
    assert mark_of(["v=spf1 -all"]) is None
    assert mark_of([]) is None


ONE, OTHER = ("A 192.0.2.5",), ("A 192.0.2.5", "A 192.0.2.6")


def test_nothing_without_a_mark_is_replaced_or_deleted() -> None:
    fresh = update(None, ONE, "node1", came=True)
    assert fresh and fresh.found is None and set(fresh.absent) == {"A", "AAAA", "CNAME"}
    assert update(None, (), "node1", came=False) is None
    assert update(None, ("PTR i1.",), "node1", came=True).absent == ("PTR", "CNAME")  # type: ignore[union-attr]


def test_only_a_node_to_which_the_instance_came_takes_what_another_wrote() -> None:
    theirs = Mark("node2", ONE)
    assert update(theirs, ONE, "node1", came=True) == (theirs, (), Mark("node1", ONE))
    assert update(theirs, ONE, "node1", came=False) is None
    assert update(theirs, (), "node1", came=True) is None
    mine = Mark("node1", ONE)
    assert update(mine, OTHER, "node1", came=False) == (mine, (), Mark("node1", OTHER))
    assert update(mine, (), "node1", came=False) == (mine, (), None)


class Server:
    """A server's records at one name: those with a mark, and that mark. An update is taken if what it relies on holds."""

    def __init__(self) -> None:
        self.mark: Mark | None = None
        self.records: set[str] = {"MX 1 mail."}

    def ask(self, found: Mark | None, records: tuple[str, ...], node: str, *, came: bool) -> None:
        """Like daemon/publish.py, but what it read may be old."""
        wanted = update(found, records, node, came=came)
        if wanted and wanted.found == self.mark:
            self.records -= set(wanted.found.records if wanted.found else ())
            self.records |= set(wanted.new.records if wanted.new else ())
            self.mark = wanted.new


@pytest.mark.parametrize("seed", range(300))
def test_a_name_is_its_node_s_however_two_nodes_take_turns(seed: int) -> None:
    """An instance with two NICs moves, one after the other, and perhaps back; each node says so in any order."""
    chance, server = random.Random(seed), Server()
    has: dict[str, set[str]] = {"node1": set(OTHER), "node2": set()}
    sent: dict[str, bool] = {"node1": False, "node2": False}
    read: dict[str, Mark | None] = {"node1": None, "node2": None}

    def publish_by(node: str, *, old: bool = False) -> None:
        records = tuple(sorted(has[node]))
        server.ask(read[node] if old else server.mark, records, node, came=not sent[node])
        sent[node] = bool(records) and (server.mark is not None)

    publish_by("node1")
    for _ in range(chance.randrange(1, 4)):
        source, target = ("node1", "node2") if has["node1"] else ("node2", "node1")
        for record in OTHER:
            has[source].discard(record)
            has[target].add(record)
            for node in chance.sample(["node1", "node2"], chance.randrange(3)):
                read[node] = server.mark
                publish_by(node, old=chance.random() < 0.3)
        for node in chance.sample(["node1", "node2"], 2):  # each says what it has in the end, in any order
            publish_by(node)
        assert server.records == {"MX 1 mail.", *OTHER}
        assert server.mark == Mark(target, OTHER)


def test_the_file_is_replaced_as_a_whole_and_only_if_it_is_ours(tmp_path: Path) -> None:
    names = Names(hosts_file=f"{tmp_path}/deep/hosts")
    assert publish.publish(names, HEADER, {}, {}) == {"right": [], "left": False, "failures": []}
    first = (tmp_path / "deep" / "hosts").stat()
    assert publish.publish(names, HEADER, {}, {})["failures"] == []
    assert (tmp_path / "deep" / "hosts").stat().st_ino == first.st_ino, "an equal file is not written again"
    assert publish.publish(names, f"{HEADER}x\n", {}, {})["failures"] == []
    assert (tmp_path / "deep" / "hosts").read_text() == f"{HEADER}x\n"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["hosts"]
    (tmp_path / "deep" / "hosts").write_text("127.0.0.1 localhost\n")
    answer = publish.publish(names, HEADER, {}, {})
    assert answer["left"] and "is not overwritten" in answer["failures"][0][0]
    assert (tmp_path / "deep" / "hosts").read_text() == "127.0.0.1 localhost\n"


def test_what_was_written_is_remembered_also_by_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "PATH", f"{tmp_path}/names.json")
    assert publish.written() == {}
    known = {"i1.example.com": publish.Written("example.com", True)}
    publish._keep(known)
    assert publish.written() == known
    Path(publish.PATH).write_text("{")
    assert publish.written() == {}
