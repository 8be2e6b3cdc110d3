# SPDX-License-Identifier: BSD-2-Clause
"""A DNS server that takes dynamic updates (RFC 2136), each signed with a key that it shares with us (TSIG, RFC 8945).

This is the one module that imports dnspython. Only the child process that updates names imports it.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from typing import TypeVar

from ganeti_vif.desired.names import LABEL, Mark, Update, mark_of
from ganeti_vif.engine.failure import Failure

try:
    import dns.exception
    import dns.flags
    import dns.message
    import dns.name
    import dns.query
    import dns.rcode
    import dns.rdata
    import dns.rdataclass
    import dns.rdatatype
    import dns.rrset
    import dns.tsig
    import dns.update
except ImportError as error:
    what = "names cannot be written to a DNS server: dnspython is missing"
    raise Failure(what, "apt install python3-dnspython") from error

PATIENCE = 5.0
"""Seconds to wait for one answer."""
PORT = 53

_KEY = re.compile(
    r'key\s+"?(?P<name>[A-Za-z0-9._-]+)"?\s*\{\s*'
    r'algorithm\s+"?(?P<algorithm>[A-Za-z0-9.-]+)"?\s*;\s*secret\s+"?(?P<secret>[A-Za-z0-9+/=]+)"?\s*;\s*\}\s*;?'
)
_REFUSED = {
    dns.rcode.NOTAUTH: "it does not serve that zone, or does not know the key",
    dns.rcode.REFUSED: "the key may not do that there",
    dns.rcode.NOTIMP: "it takes no updates",
    dns.rcode.NOTZONE: "the name is not in that zone",
}
M = TypeVar("M", bound="dns.message.Message")


class Silent(Failure):
    """The server cannot be reached, or does not answer."""


class Changed(Exception):
    """Somebody else changed what an update relied on."""


def key_of(path: str) -> dns.tsig.Key:
    """The key in the file PATH, in the format of named.conf, as tsig-keygen prints it.

    Raises Failure if there is none, or if everybody may read it.
    """
    how = f"note: write there what `tsig-keygen -a hmac-sha256 ganeti-vif` prints, and give the server the same: {path}"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read()
    except OSError as error:
        raise Failure(f"the key in {path} cannot be read: {os.strerror(error.errno or 0)}", how) from error
    if mode & stat.S_IRWXO:
        raise Failure(f"everybody may read the key in {path}", f"chmod o= {path}")
    found = _KEY.search(re.sub(r"(?m)(#|//).*$", "", text))
    if found is None:
        raise Failure(f"{path} has no key of the form: key NAME {{ algorithm ...; secret ...; }};", how)
    try:
        return dns.tsig.Key(found["name"], found["secret"], found["algorithm"])  # type: ignore[no-untyped-call]
    except (ValueError, dns.exception.DNSException) as error:
        raise Failure(f"the key in {path} cannot be used: {error}", how) from error


class NameServer:
    """The server at ADDRESS, asked with KEY. Records get TTL seconds to live. A context manager."""

    def __init__(self, address: str, key: dns.tsig.Key, ttl: int) -> None:
        self._address, self._key, self._ttl = address, key, ttl
        self._socket: socket.socket | None = None

    def __enter__(self) -> NameServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def mark(self, owner: str) -> Mark | None:
        """The mark at OWNER; None if there is none. Raises Silent, or Failure if the server refuses to tell."""
        name = _name(f"{LABEL}.{owner}")
        query = dns.message.make_query(name, dns.rdatatype.TXT)
        query.flags &= ~dns.flags.RD
        answer = self._ask(query)
        if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise self._refusal(answer.rcode(), owner)
        for rrset in answer.answer:
            if rrset.name == name and rrset.rdtype == dns.rdatatype.TXT:
                for rdata in rrset:
                    if found := mark_of(string.decode("utf-8", "replace") for string in rdata.strings):
                        return found
        return None

    def update(self, zone: str, owner: str, wanted: Update) -> None:
        """Have the records at OWNER in ZONE changed as WANTED says.

        Raises Changed if the mark is another by now; Silent; and Failure if the server refuses, or if there are records
        without our mark.
        """
        name, mark = _name(owner), _name(f"{LABEL}.{owner}")
        message = dns.update.UpdateMessage(_name(zone))
        if wanted.found is None:
            message.absent(mark)
            for kind in wanted.absent:
                message.absent(name, kind)
        else:
            message.present(mark, _txt(wanted.found))
            if wanted.found != wanted.new:
                message.delete(mark, _txt(wanted.found))
            for record in set(wanted.found.records) - set(wanted.new.records if wanted.new else ()):
                message.delete(name, _rdata(record))
        if wanted.new is not None:
            if wanted.found != wanted.new:
                message.add(mark, self._ttl, _txt(wanted.new))
            for record in wanted.new.records:
                message.add(name, self._ttl, _rdata(record))
        code = self._ask(message).rcode()
        if code == dns.rcode.YXRRSET and wanted.found is None:
            do = f"note: delete those records at {self._address}, or rename the instance"
            raise Failure(f"{owner} has records in DNS that are not ganeti-vif's", do)
        if code in (dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.YXDOMAIN, dns.rcode.NXDOMAIN):
            raise Changed
        if code != dns.rcode.NOERROR:
            raise self._refusal(code, owner)

    def _ask(self, message: M) -> M:
        """The answer to MESSAGE. An update may be asked for twice: its prerequisite holds once only."""
        message.use_tsig(self._key)
        for last in (False, True):
            try:
                if self._socket is None:
                    self._socket = socket.create_connection((self._address, PORT), PATIENCE)
                    self._socket.setblocking(False)
                return dns.query.tcp(message, self._address, PATIENCE, sock=self._socket)  # type: ignore[return-value]
            except (EOFError, ConnectionError, BrokenPipeError, OSError, dns.exception.Timeout) as error:
                self._close()
                if last or isinstance(error, dns.exception.Timeout | TimeoutError):
                    reason = error.strerror if isinstance(error, OSError) and error.strerror else "no answer"
                    do = f"note: is it up, and does it answer on TCP port {PORT}? It is tried again"
                    raise Silent(f"the DNS server {self._address} does not answer: {reason}", do) from error
            except dns.exception.DNSException as error:
                self._close()
                raise self._distrust(error) from error
        raise AssertionError

    def _distrust(self, error: Exception) -> Failure:
        what = f"the DNS server {self._address} and this node do not agree on the key: {error or type(error).__name__}"
        return Silent(what, "note: compare the key's name, algorithm and secret, and both clocks")

    def _refusal(self, code: dns.rcode.Rcode, owner: str) -> Failure:
        reason = _REFUSED.get(code, "see its log")
        what = f"the DNS server {self._address} refuses what is about {owner}: {dns.rcode.to_text(code)}, {reason}"
        return Failure(what, "note: let the key of 'key-file' update that zone, and read it")

    def _close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None


def _name(text: str) -> dns.name.Name:
    """Raises Failure if the name is too long: the one of a mark is longer than its owner's."""
    try:
        return dns.name.from_text(text)
    except dns.exception.DNSException as error:
        do = "note: rename the instance, with gnt-instance rename"
        raise Failure(f"{text} cannot be a name in DNS: {error}", do) from error


def _txt(mark: Mark) -> dns.rdata.Rdata:
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.TXT, " ".join(f'"{one}"' for one in mark.strings))


def _rdata(record: str) -> dns.rdata.Rdata:
    kind, _, text = record.partition(" ")
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), text)
