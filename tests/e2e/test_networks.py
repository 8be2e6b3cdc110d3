# SPDX-License-Identifier: BSD-2-Clause
"""`ganeti-vif network` against the remote API of a real cluster of one node, with real guests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .cluster import Cluster, Done
from .documents import commands, unlike
from .instance import Instance
from .one_node import WEB

AUTHORITY = """\
[ca]
default_ca = a
[a]
database = index
serial = serial
policy = p
new_certs_dir = .
default_md = sha256
[p]
commonName = supplied
"""
DOCUMENT = "docs/networks.md"
USERS = "/var/lib/ganeti/rapi/users"


def network(cluster: Cluster, *words: str, status: int = 0) -> Done:
    """Run `ganeti-vif network` on the master; it must end with STATUS. What it prints is in the report of a failure."""
    cluster.changes += 1
    done = cluster.master.try_("ganeti-vif", "network", *words)
    print(f"# ganeti-vif network {' '.join(words)}\n{done.stdout}{done.stderr}", end="")
    assert done.returncode == status, done.stdout + done.stderr
    return done


def create(cluster: Cluster, name: str, number: int) -> str:
    """Create a network. Returns its link."""
    done = network(cluster, "create", "--json", "--subnet", f"10.{number}.0.0/24", "--dhcp", name)
    return str(json.loads(done.stdout)["connections"][0]["link"])


def listed(cluster: Cluster) -> dict[str, dict[str, Any]]:
    found = json.loads(network(cluster, "list", "--json").stdout)["networks"]
    return {one["name"]: one for one in found}


def links(cluster: Cluster) -> list[str]:
    return sorted(one["link"] for one in listed(cluster).values())


@pytest.fixture
def web(cluster: Cluster) -> Instance:
    return Instance(cluster, WEB)


def ended_after(cluster: Cluster, jobs: int, signal: str) -> str:
    """A creator gets SIGNAL as soon as Ganeti has got so many JOBS of it. Returns what it says, with its status."""
    count = "ls /var/lib/ganeti/queue | grep -c ^job-"
    done = cluster.master.do("sh", "-c", f"""exec 2>&1; jobs=$(({jobs} + $({count})))
        ganeti-vif network create --subnet 10.1.0.0/24 ended & creator=$!
        until [ $({count}) -ge $jobs ] || ! kill -0 $creator; do :; done
        kill -{signal} $creator; wait $creator; echo status $?""")  # fmt: skip
    print(done)
    return done


@pytest.mark.complaints(
    r"remote API|credentials in|no link is free|there is a network|no such NIC in|is in use by|interrupted by|\(add same\)"
)
class TestNetworks:
    """The steps, in their order."""

    def test_a_cluster_begins_and_its_remote_api_has_a_user(self, cluster: Cluster) -> None:
        cluster.init()
        done = network(cluster, "list", status=1)
        assert f"the credentials in {USERS} cannot be read" in done.stderr or "no user" in done.stderr
        for command in commands(DOCUMENT, "What it needs"):
            cluster.master.do("sh", "-c", command.text)
        cluster.master.do("sh", "-c", f"echo 'reader secret read' >>{USERS}")
        # Nothing tells when the remote API has read its file again.
        cluster.master.do("timeout", "60", "sh", "-c", "until ganeti-vif network list; do :; done 2>&1")
        assert listed(cluster) == {}
        assert "free: 3 of 3, the lowest: pvn1" in network(cluster, "free").stdout

    def test_the_lowest_free_links_are_taken_until_there_is_none(self, cluster: Cluster) -> None:
        assert [create(cluster, name, number) for number, name in enumerate("abc", 1)] == ["pvn1", "pvn2", "pvn3"]
        done = network(cluster, "create", "--subnet", "10.4.0.0/24", "d", status=1)
        assert done.stderr == "error: no link is free for d: all 3 are used\n  see: ganeti-vif network list\n"
        assert set(listed(cluster)) == {"a", "b", "c"}
        assert "already" in network(cluster, "create", "--subnet", "10.4.0.0/24", "a", status=1).stderr

    def test_an_instance_is_connected_while_it_runs_and_the_first_of_three_cards_goes(
        self, cluster: Cluster, web: Instance
    ) -> None:
        checks = ["--no-name-check", "--no-ip-check"] if cluster.version < (3, 1) else []
        node = cluster.master.name
        cluster.gnt(
            "instance", "add", "-t", "diskless", "-o", "noop+default", "--no-install", *checks, "-n", node,
            "--no-nics", WEB,
        )  # fmt: skip
        cluster.gnt("instance", "start", WEB)
        for name in "abc":
            done = network(cluster, "connect", WEB, name)
            assert "reboot" not in done.stdout
        web.attached()
        assert [card.link for card in web.cards] == ["pvn1", "pvn2", "pvn3"]
        web.configure(ipv6=False)
        assert WEB in network(cluster, "show", "a").stdout
        network(cluster, "disconnect", "web", "a")
        web.attached()
        assert [card.link for card in web.cards] == ["pvn2", "pvn3"]
        done = network(cluster, "disconnect", WEB, "a", status=1)
        assert done.stderr.startswith(f"error: {WEB} has no such NIC in a\n")

    def test_a_network_in_use_stays_and_the_number_of_a_destroyed_one_is_used_again(self, cluster: Cluster) -> None:
        done = network(cluster, "destroy", "b", status=1)
        assert f"b is in use by {WEB} NIC 0" in done.stderr
        assert listed(cluster)["b"]["state"] == "ok"
        network(cluster, "destroy", "a")
        assert create(cluster, "again", 5) == "pvn1"
        for name in ("again", "b", "c"):
            network(cluster, "destroy", "--disconnect", name)
        assert listed(cluster) == {}
        assert Instance(cluster, WEB).cards == []

    def test_of_five_creators_at_once_three_get_the_three_links(self, cluster: Cluster) -> None:
        one = "(ganeti-vif network create --subnet 10.$i.0.0/24 net$i; echo status $?)"
        done = cluster.master.do("sh", "-c", f"for i in 1 2 3 4 5; do {one} & done 2>&1; wait")
        print(done)
        assert done.count("status 0") == 3 and done.count("no link is free") == 2
        assert links(cluster) == ["pvn1", "pvn2", "pvn3"]
        for name in listed(cluster):
            network(cluster, "destroy", name)

    def test_of_five_creators_of_one_name_one_gets_it(self, cluster: Cluster) -> None:
        one = "(ganeti-vif network create --subnet 10.$i.0.0/24 same; echo status $?)"
        done = cluster.master.do("sh", "-c", f"for i in 1 2 3 4 5; do {one} & done 2>&1; wait")
        print(done)
        assert done.count("status 0") == 1
        assert set(listed(cluster)) == {"same"}
        network(cluster, "destroy", "same")

    @pytest.mark.parametrize("jobs", [1, 2, 3])
    def test_repair_finishes_what_a_killed_creator_left(self, cluster: Cluster, jobs: int) -> None:
        ended_after(cluster, jobs, "KILL")
        idle = "while gnt-job list --no-headers -o status | grep -qE 'queued|waiting|running'; do :; done"
        cluster.master.do("sh", "-c", idle)
        network(cluster, "list")
        network(cluster, "repair", "--older", "0")
        found = listed(cluster)
        assert found == {} or found["ended"]["state"] == "ok"
        for name in found:
            network(cluster, "destroy", name)

    @pytest.mark.parametrize("jobs", [1, 2, 3])
    def test_a_signal_leaves_nothing_of_a_creation(self, cluster: Cluster, jobs: int) -> None:
        said = ended_after(cluster, jobs, "TERM")
        found = listed(cluster)
        if "interrupted by SIGTERM" in said:
            assert found == {} and "status 130" in said
        else:
            assert found["ended"]["state"] == "ok" and "status 0" in said
            network(cluster, "destroy", "ended")

    def test_what_can_be_wrong_with_the_remote_api_is_told_in_two_lines(self, cluster: Cluster) -> None:
        master = cluster.master
        master.write("/root/wrong", "builder wrong write\n", 0o600)
        master.write("/root/reader", "reader secret\n", 0o600)
        made = (
            "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=x -keyout /root/key.pem -out /root/other.pem"
        )
        master.do("sh", "-c", f"{made} 2>&1")
        for words, what in (
            (("--credentials", "/root/wrong"), "does not accept this name and password"),
            (("--certificate", "/root/other.pem"), "the certificate of Ganeti's remote API has expired, or is not"),
            (("--rapi", "127.0.0.1:1"), "Ganeti's remote API does not answer"),
        ):
            done = network(cluster, "list", *words, status=1)
            assert what in done.stderr and len(done.stderr.splitlines()) == 2
        create_ = ("create", "--subnet", "10.1.0.0/24", "--credentials", "/root/reader", "nothing")
        assert "may not make changes" in network(cluster, *create_, status=1).stderr
        assert listed(cluster) == {}

    def test_an_expired_certificate_is_told(self, cluster: Cluster) -> None:
        master = cluster.master
        pem, util = "/var/lib/ganeti/rapi.pem", "/usr/lib/ganeti/daemon-util"
        daemon = f"{util} stop ganeti-rapi; {util} start ganeti-rapi"
        old = "req -new -newkey rsa:2048 -nodes -subj /CN=x -keyout key.pem -out csr.pem"
        signed = "ca -batch -notext -selfsign -config conf -keyfile key.pem -in csr.pem -out old.pem"
        dates = "-startdate 20200101000000Z -enddate 20200102000000Z"
        master.write("/root/conf", AUTHORITY)
        master.do("sh", "-c", f"""exec 2>&1; set -e; cd /root; cp {pem} rapi.pem; : >index; echo 01 >serial
            openssl {old}; openssl {signed} {dates}; cat key.pem old.pem >{pem}; {daemon}""")  # fmt: skip
        done = network(cluster, "list", status=1)
        what, do = done.stderr.splitlines()
        assert "has expired, or is not" in what
        assert "notAfter=Jan  2 00:00:00 2020 GMT" in master.do("sh", "-c", do.removeprefix("  see: "))
        master.do("sh", "-c", f"cat /root/rapi.pem >{pem} && {daemon}")
        assert listed(cluster) == {}

    @pytest.mark.parametrize(
        "section", ["From create to destroy", "Which links are free", "Many networks on one bridge"]
    )
    def test_the_commands_of_the_document_print_what_it_shows(self, cluster: Cluster, section: str) -> None:
        found = commands(DOCUMENT, section)
        assert found
        for command in found:
            cluster.changes += 1
            printed = cluster.master.try_("sh", "-c", f"exec 2>&1; {command.text}").stdout
            print(f"node1# {command.text}\n{printed}", end="")
            assert unlike(command.output, printed.splitlines()) is None, f"{command.place}: {printed}"
        for name in listed(cluster):
            network(cluster, "destroy", name)

    def test_networks_that_share_a_bridge_have_prefixes_of_their_own(self, cluster: Cluster) -> None:
        for number, name in enumerate(("red", "blue"), 1):
            network(cluster, "create", "--subnet", f"10.{number}.0.0/24", "--isolate", "mac", name)
        found = [json.loads(network(cluster, "show", "--json", name).stdout) for name in ("red", "blue")]
        assert {one["connections"][0]["link"] for one in found} == {"pvn1"}
        assert len({one["mac_prefix"] for one in found}) == 2
        for name in ("red", "blue"):
            network(cluster, "connect", WEB, name)
        Instance(cluster, WEB).attached()

    def test_everything_goes(self, cluster: Cluster) -> None:
        for name in ("red", "blue"):
            network(cluster, "destroy", "--disconnect", name)
        cluster.gnt("instance", "remove", "-f", "--shutdown-timeout=0", WEB)
        Instance(cluster, WEB).gone()
        done = cluster.verify()
        assert done.returncode == 0, done.stdout
