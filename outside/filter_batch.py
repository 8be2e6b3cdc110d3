"""Filter chains written in one transaction of nfnetlink, their rules already in the kernel's words.

libnftables reads all chains of the node before it adds one rule: 30 to 75 ms with the chains of a thousand NICs. A
batch reads nothing. Message layouts: linux/netfilter/nfnetlink.h, nf_tables.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence

from engine.objects import Chain
from outside.filters import (
    COMMENT,
    FAMILIES,
    HOOKS,
    NETLINK_NETFILTER,
    NFNL_SUBSYS_NFTABLES,
    NFTA_CHAIN_HOOK,
    NFTA_CHAIN_NAME,
    NFTA_CHAIN_POLICY,
    NFTA_HOOK_DEV,
    NFTA_HOOK_NUMBER,
    NFTA_HOOK_PRIORITY,
    NFTA_RULE_CHAIN,
    NFTA_RULE_EXPRESSIONS,
    NFTA_RULE_USERDATA,
    NFTA_TABLE,
)
from outside.query import NLM_F_REQUEST, NLMSG_ERROR, attribute

NLM_F_ACK, NLM_F_CREATE, NLM_F_APPEND, NLA_F_NESTED = 0x4, 0x400, 0x800, 0x8000
BATCH_BEGIN, BATCH_END = 0x10, 0x11
NEW_TABLE, DELETE_TABLE, NEW_CHAIN, DELETE_CHAIN, NEW_RULE, DELETE_RULE = (
    NFNL_SUBSYS_NFTABLES | kind for kind in (0, 2, 3, 5, 6, 8)
)
NFTA_CHAIN_TYPE = 7
DROP, ACCEPT = 0, 1
PATIENCE = 30
"""Seconds: the kernel answers before send() returns, unless it waits for another transaction to end."""

Message = tuple[int, int, bytes]
"""Type, flags beside NLM_F_REQUEST, and body."""

_HEADER = struct.Struct("=IHHII")
_NFGENMSG = struct.Struct("=BBH")
_BATCH = _NFGENMSG.pack(0, 0, socket.htons(NFNL_SUBSYS_NFTABLES >> 8))


class FilterBatch:
    """A socket for transactions of nftables."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self._socket.settimeout(PATIENCE)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def run(self, messages: Sequence[Message]) -> None:
        """All of MESSAGES, or none. Raises OSError with the kernel's reason."""
        first = self._sequence + 1
        parts = [self._message(BATCH_BEGIN, 0, _BATCH)]
        for number, (kind, flags, body) in enumerate(messages, 1):
            # One answer is enough: errors are told in any case, and before it.
            parts.append(self._message(kind, flags | (NLM_F_ACK if number == len(messages) else 0), body))
        last = self._sequence
        parts.append(self._message(BATCH_END, 0, _BATCH))
        self._socket.send(b"".join(parts))
        self._answer(first, last)

    def _message(self, kind: int, flags: int, body: bytes) -> bytes:
        self._sequence += 1
        return _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | flags, self._sequence, 0) + body

    def _answer(self, first: int, last: int) -> None:
        while True:
            data, at = self._socket.recv(1 << 16), 0
            while at < len(data):
                length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
                if kind == NLMSG_ERROR and first <= sequence <= last + 1:
                    code = -struct.unpack_from("=i", data, at + _HEADER.size)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    if sequence == last:
                        return
                at += length + 3 & ~3


def definition(chain: Chain, expressions: Iterable[bytes], *, hooked: bool) -> Iterator[Message]:
    """What makes CHAIN what it should be; EXPRESSIONS are its rules'. HOOKED if it hangs where it should already."""
    if not hooked:
        yield NEW_TABLE, NLM_F_CREATE, _body(chain, (NFTA_TABLE, None))
        yield NEW_CHAIN, NLM_F_CREATE, _body(chain, (NFTA_TABLE, None), (NFTA_CHAIN_NAME, chain.name)) + _hook(chain)
    yield DELETE_RULE, 0, _body(chain, (NFTA_TABLE, None), (NFTA_RULE_CHAIN, chain.name))
    where = _body(chain, (NFTA_TABLE, None), (NFTA_RULE_CHAIN, chain.name))
    for rule, expression in zip(chain.rules, expressions, strict=True):
        comment = rule.comment.encode() + b"\0"
        userdata = attribute(NFTA_RULE_USERDATA, bytes((COMMENT, len(comment))) + comment)
        body = where + attribute(NFTA_RULE_EXPRESSIONS | NLA_F_NESTED, expression) + userdata
        yield NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, body


def deletion(chain: Chain) -> Iterator[Message]:
    """What removes CHAIN and its rules, and its table if it is its own."""
    if chain.owns_table:
        yield DELETE_TABLE, 0, _body(chain, (NFTA_TABLE, None))
        return
    yield DELETE_RULE, 0, _body(chain, (NFTA_TABLE, None), (NFTA_RULE_CHAIN, chain.name))
    yield DELETE_CHAIN, 0, _body(chain, (NFTA_TABLE, None), (NFTA_CHAIN_NAME, chain.name))


def _body(chain: Chain, *names: tuple[int, str | None]) -> bytes:
    texts = (attribute(kind, (name or chain.table).encode() + b"\0") for kind, name in names)
    return _NFGENMSG.pack(FAMILIES[chain.family], 0, 0) + b"".join(texts)


def _hook(chain: Chain) -> bytes:
    hook = attribute(NFTA_HOOK_NUMBER, struct.pack("!I", HOOKS[chain.family].index(chain.hook)))
    hook += attribute(NFTA_HOOK_PRIORITY, struct.pack("!i", chain.priority))
    if chain.device:
        hook += attribute(NFTA_HOOK_DEV, chain.device.encode() + b"\0")
    policy = struct.pack("!I", DROP if chain.policy == "drop" else ACCEPT)
    return (
        attribute(NFTA_CHAIN_HOOK | NLA_F_NESTED, hook)
        + attribute(NFTA_CHAIN_POLICY, policy)
        + attribute(NFTA_CHAIN_TYPE, b"filter\0")
    )
