# SPDX-License-Identifier: BSD-2-Clause
"""What `ganeti-vif network` prints, and how it is told where the remote API is and who asks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from memory_rapi import GanetiApiError, MemoryRapi

from ganeti_vif.cli import command_line as cli
from ganeti_vif.cli.network import _place
from ganeti_vif.cluster import credentials, networks, rapi
from ganeti_vif.cluster.credentials import Credentials
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.interruption import RUN
from ganeti_vif.kernel import privileges
from tests.e2e import documents

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryRapi]:
    client = MemoryRapi()
    monkeypatch.setattr(rapi, "connect", lambda *_: client)
    monkeypatch.setattr(credentials, "read", lambda _: Credentials("builder", "secret"))
    monkeypatch.setattr(rapi.time, "sleep", lambda _: None)
    monkeypatch.setattr(networks, "LONG", 0.2)
    monkeypatch.setattr(privileges, "is_root", lambda: False)
    yield client
    RUN._wish = None


@pytest.fixture
def ask(client: MemoryRapi, capsys: pytest.CaptureFixture[str]) -> Ask:
    def run(*words: str) -> tuple[int, str, str]:
        status = cli.main(["network", *words, "--links", "pvn=1-3"], {})
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_a_network_from_its_creation_to_its_end(ask: Ask, client: MemoryRapi) -> None:
    client.add_instance("web.example.com")
    client.add_instance("old.example.com", {"link": "pvn2"})
    assert ask("create", "--subnet", "10.0.0.0/24", "--gateway", "10.0.0.1", "--dhcp", "internal") == (
        0,
        "internal: created, link pvn1 in default\n",
        "",
    )
    status, out, _ = ask("connect", "web", "internal", "--name", "lan")
    assert (status, out) == (0, "web.example.com NIC 0 (10.0.0.9): added to internal, link pvn1\n")
    assert ask("list")[1].splitlines() == [
        "NETWORK   LINK  GROUPS   SUBNET       NICS  STATE",
        "internal  pvn1  default  10.0.0.0/24  1     ok",
    ]
    shown = ask("show", "internal")[1]
    assert "tags:       nfdhcpd\n" in shown and "gateway:    10.0.0.1\n" in shown
    assert shown.endswith("  10.0.0.9\n")
    assert ask("free")[1].splitlines() == [
        "LINK  USED BY",
        "pvn1  internal (1 NIC)",
        "pvn2  old.example.com NIC 0 without a network",
        "",
        "free: 1 of 3, the lowest: pvn3",
    ]
    status, _, err = ask("destroy", "internal")
    assert (status, err.splitlines()[0]) == (1, "error: internal is in use by web.example.com NIC 0 (10.0.0.9)")
    assert ask("disconnect", "web", "internal")[1] == "web.example.com NIC 0 (10.0.0.9): removed from internal\n"
    assert ask("destroy", "internal")[1] == "internal: destroyed, link pvn1 is free\n"
    assert ask("list") == (0, "\n", "")


def test_json_is_one_object_with_the_same(ask: Ask) -> None:
    made: dict[str, Any] = json.loads(ask("create", "--json", "--subnet", "10.0.0.0/24", "--isolate", "mac", "red")[1])
    assert made["connections"] == [{"group": "default", "mode": "bridged", "link": "pvn1"}]
    assert made["tags"] == ["private-filtered"] and made["mac_prefix"]
    assert json.loads(ask("free", "--json")[1]) == {
        "used": {"pvn1": {"networks": ["red"], "nics": []}},
        "outside": {},
        "free": ["pvn2", "pvn3"],
    }
    assert json.loads(ask("list", "--json")[1])["networks"][0]["state"] == "ok"
    assert json.loads(ask("repair", "--json")[1]) == {"done": [], "trouble": []}


def test_a_guest_that_was_not_told_is_named_with_the_reboot(ask: Ask, client: MemoryRapi) -> None:
    client.hotplug = "hotplug:failed"
    client.add_instance("web.example.com")
    ask("create", "--subnet", "10.0.0.0/24", "internal")
    assert ask("connect", "web", "internal")[1].splitlines()[1:] == [
        "its guest runs, and could not be told: it notices at the next reboot",
        "  fix: gnt-instance reboot web.example.com",
    ]


def test_few_free_links_and_links_outside_are_told(ask: Ask, client: MemoryRapi) -> None:
    for name in ("a", "b", "c"):
        ask("create", "--subnet", "10.0.0.0/24", name)
    client.now.networks[next(iter(client.now.networks))]["groups"] = {"default": ["bridged", "pvn200", ""]}
    client.publish()
    ask("create", "--subnet", "10.0.0.0/24", "d")
    lines = ask("free")[1].splitlines()
    assert lines[-3:] == [
        "outside of the ranges: pvn200, used by a (0 NICs)",
        "free: 0 of 3",
        "note: the links run out; extend the range `bridges` of [private ...] on every node",
    ]
    assert "a        pvn200  default  10.0.0.0/24  0     outside of the ranges" in ask("list")[1]


def test_repair_says_what_it_does_and_what_only_an_administrator_can_mend(ask: Ask, client: MemoryRapi) -> None:
    for name in ("a", "b"):
        ask("create", "--subnet", "10.0.0.0/24", name)
    first, second = client.now.networks.values()
    first["groups"] = {"default": ["bridged", "pvn2", ""]}
    client.publish()
    status, out, err = ask("repair")
    assert (status, out) == (1, "nothing is unfinished\n")
    assert err.splitlines() == [
        "error: the networks a, b have the same link pvn2: their guests see each other",
        "  note: destroy all but one of them, and create them again",
    ]
    second["tags"] |= {"ganeti-vif:unfinished", "ganeti-vif:creating:00"}
    client.publish()
    assert ask("repair", "--dry-run")[1] == "b: taken from its creator\n"
    assert ask("repair")[:2] == (0, "b: taken from its creator\nb: disconnected from default\nb: removed\n")


@pytest.mark.parametrize(("verb", "goes"), [("create", "nothing of it is left"), ("connect", "job 6 (connect web")])
def test_an_interruption_says_what_goes_on(ask: Ask, client: MemoryRapi, verb: str, goes: str) -> None:
    client.add_instance("web.example.com")
    ask("create", "--subnet", "10.0.0.0/24", "internal")
    asked = []

    def interrupt(name: str) -> None:
        asked.append(name)
        if name == "GetJobStatus" and asked.count(name) == 1:
            RUN._wish = "SIGINT"

    client.before = interrupt
    words = ["--subnet", "10.1.0.0/24", "other"] if verb == "create" else ["web", "internal"]
    if verb == "create":
        status, _, err = ask(verb, *words)
    else:
        client.fails["ModifyInstance"] = "stuck"
        status, _, err = ask(verb, *words)
    assert status == 130
    assert err.startswith("error: interrupted by SIGINT: ") and len(err.splitlines()) == 2
    assert goes in err or "goes on in Ganeti" in err
    assert [row["name"] for row in client.now.networks.values()] == ["internal"]


def test_an_unknown_group_is_refused(ask: Ask) -> None:
    status, _, err = ask("create", "--subnet", "10.0.0.0/24", "--groups", "elsewhere", "a")
    assert (status, err) == (1, "error: there is no node group elsewhere\n  see: gnt-group list\n")


def test_a_subnet_is_parsed_at_the_entry(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ask("create", "--subnet", "10.0.0.1/24", "a")
    assert "10.0.0.1/24 has host bits set" in capsys.readouterr().err


def test_an_error_of_the_remote_api_has_two_lines(ask: Ask, client: MemoryRapi) -> None:
    def refuse(_: str) -> None:
        raise GanetiApiError("401 Unauthorized", 401)

    client.before = refuse
    status, out, err = ask("list")
    assert (status, out, len(err.splitlines())) == (1, "", 2)


def test_the_program_of_the_document_works(
    client: MemoryRapi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client.add_instance("web.example.com")
    client.add_instance("db.example.com")
    monkeypatch.setattr(credentials, "read", lambda: Credentials("builder", "secret"))
    monkeypatch.setattr(sys, "argv", ["example", "web", "db"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    (program,) = [block for block in documents.blocks("docs/networks.md") if block.language == "python"]
    exec("\n".join(program.lines), {})
    assert capsys.readouterr().out == "web.example.com 10.0.0.9 pvn1\ndb.example.com 10.0.0.9 pvn1\n"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", ("", 5080)),
        ("cluster.example.com", ("cluster.example.com", 5080)),
        ("cluster.example.com:5081", ("cluster.example.com", 5081)),
        ("[2001:db8::1]:5081", ("2001:db8::1", 5081)),
        ("2001:db8::1", ("2001:db8::1", 5080)),
    ],
)
def test_the_place_of_the_remote_api(text: str, place: tuple[str, int]) -> None:
    assert _place(text) == place


def test_a_port_is_a_number() -> None:
    with pytest.raises(Failure, match="'x' is no port"):
        _place("host:x")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a secret write\n", Credentials("a", "secret")),
        ("a secret\n", Credentials("a", "secret")),
        ("# x y\nr secret read\nh {HA1}0123 write\nc {cleartext}s3 write\n", Credentials("c", "s3")),
        ("h {HA1}0123 write\n", None),
        ("r secret read\n", None),
        ("", None),
    ],
)
def test_credentials_are_the_first_readable_ones_that_may_write(text: str, found: Credentials | None) -> None:
    assert credentials.parse(text) == found


def test_a_password_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("a secret write\n")
    file.chmod(0o644)
    with pytest.raises(Failure, match="everybody may read the password") as caught:
        credentials.read(str(file))
    assert caught.value.do == f"chmod o= {file}"
    os.chmod(file, 0o640)
    assert credentials.read(str(file)) == Credentials("a", "secret")
    with pytest.raises(Failure, match="cannot be read: No such file"):
        credentials.read(str(tmp_path / "none"))
