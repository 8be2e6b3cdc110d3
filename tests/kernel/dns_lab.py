# SPDX-License-Identifier: BSD-2-Clause
"""DNS servers of Debian in nodes of the laboratory, and questions to them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dns.message
import dns.query
import dns.rcode

from tests.lab import PATIENCE, Node

from .vifd import until

KEY = 'key "ganeti-vif" {\n\talgorithm hmac-sha256;\n\tsecret "Y5Y1gQ1hYw8k5BDvCZ8WzCrj0cY6vV7Wb8yG6rA2w3E=";\n};\n'
KEY_FILE = "/etc/ganeti-vif/dns.key"
FORWARD, REVERSE4, REVERSE6 = "example.com", "2.0.192.in-addr.arpa", "8.b.d.0.1.0.0.2.ip6.arpa"
ZONE = "@ 60 IN SOA ns hostmaster 1 3600 600 86400 60\n@ 60 IN NS ns.example.com.\n{more}"
KNOT = """\
server:
    rundir: /run/knot
    listen: 0.0.0.0@53
database:
    storage: /run/knot
log:
  - target: stderr
    any: warning
key:
  - id: ganeti-vif
    algorithm: hmac-sha256
    secret: Y5Y1gQ1hYw8k5BDvCZ8WzCrj0cY6vV7Wb8yG6rA2w3E=
acl:
  - id: nodes
    key: ganeti-vif
    action: update
template:
  - id: default
    storage: /run/knot
    file: "%s.zone"
zone:
"""


def ask(node: Node, server: str, name: str, kind: str) -> set[str] | None:
    """What SERVER says of NAME to NODE: the records of this KIND. None if it does not answer."""

    def asked() -> set[str] | None:
        try:
            answer = dns.query.udp(dns.message.make_query(name, kind), server, 2.0)
        except (OSError, dns.exception.DNSException):
            return None
        known = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN, dns.rcode.REFUSED)  # dnsmasq refuses what it cannot forward
        assert answer.rcode() in known, answer
        return {rdata.to_text() for rrset in answer.answer for rdata in rrset}

    return node.inside(asked)


def becomes(asked: Callable[[], set[str] | None], wanted: set[str], what: str) -> None:
    """Wait until the answer is WANTED. If it never is, tell the last one."""
    last: list[set[str] | None] = [None]

    def met() -> bool:
        last[0] = asked()
        return last[0] == wanted

    try:
        until(met, what)
    except AssertionError as failed:
        raise AssertionError(f"{failed}: {last[0]}") from None


@contextmanager
def knot(node: Node, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Knot DNS on NODE, which takes updates of three zones with the key KEY. MORE: lines of the zone `forward`."""
    directory = node.path("/run/knot")
    directory.mkdir(exist_ok=True)
    text = KNOT
    for zone in (FORWARD, REVERSE4, REVERSE6):
        text += f"  - domain: {zone}\n    acl: nodes\n"
        file = node.path(f"/run/knot/{zone}.zone")
        if not file.exists():
            file.write_text(ZONE.format(more=more.get("forward", "") if zone == FORWARD else ""))
    node.path("/run/knot/knot.conf").write_text(text)
    server = node.popen(["knotd", "-c", "/run/knot/knot.conf"], stderr=subprocess.STDOUT)

    def answers() -> bool:
        return server.poll() is not None or ask(node, "127.0.0.1", FORWARD, "SOA") is not None

    until(answers, "the DNS server")
    assert server.poll() is None, server.communicate()
    yield server
    server.terminate()
    server.communicate(timeout=PATIENCE)


@contextmanager
def dnsmasq(node: Node, *options: str) -> Iterator[subprocess.Popen[str]]:
    """dnsmasq on NODE, which knows only what OPTIONS let it read."""
    given = ["--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=root", *options]
    server = node.popen(["dnsmasq", *given], stderr=subprocess.STDOUT)
    until(lambda: server.poll() is not None or ask(node, "127.0.0.1", "x.test", "A") is not None, "dnsmasq")
    assert server.poll() is None, server.communicate()
    yield server
    server.terminate()
    server.communicate(timeout=PATIENCE)
