# SPDX-License-Identifier: BSD-2-Clause
"""The statement `queue num N bypass` on a kernel that has xtables' NFQUEUE target, but not nftables' own."""

from __future__ import annotations

import re
import struct

from ganeti_vif.engine.chains import FilterRule
from ganeti_vif.kernel.netlink.query import attribute

_STATEMENT = re.compile(r" queue num ([0-9]+) bypass$")
NLA_F_NESTED = 0x8000
NFTA_LIST_ELEM, NFTA_EXPR_NAME, NFTA_EXPR_DATA = 1, 1, 2
NFTA_TARGET_NAME, NFTA_TARGET_REV, NFTA_TARGET_INFO = 1, 2, 3
REVISION, BYPASS = 3, 1
_INFO = struct.Struct("=HHH2x")
"""xt_NFQ_info_v3 (linux/netfilter/xt_NFQUEUE.h): number of the first queue, number of queues, flags."""


def is_queue(rule: FilterRule) -> bool:
    """Whether RULE hands its packets to a queue."""
    return _STATEMENT.search(rule.text) is not None


def matches(rule: FilterRule) -> FilterRule:
    """RULE without its queue statement."""
    return FilterRule(_STATEMENT.sub("", rule.text), rule.reason, rule.own)


def target(rule: FilterRule) -> bytes:
    """The expression for RULE's queue statement, through nft_compat (linux/netfilter/nf_tables_compat.h)."""
    found = _STATEMENT.search(rule.text)
    assert found
    data = (
        attribute(NFTA_TARGET_NAME, b"NFQUEUE\0")
        + attribute(NFTA_TARGET_REV, struct.pack("!I", REVISION))
        + attribute(NFTA_TARGET_INFO, _INFO.pack(int(found[1]), 1, BYPASS))
    )
    body = attribute(NFTA_EXPR_NAME, b"target\0") + attribute(NFTA_EXPR_DATA | NLA_F_NESTED, data)
    return attribute(NFTA_LIST_ELEM | NLA_F_NESTED, body)
