# SPDX-License-Identifier: BSD-2-Clause
"""Chains of other programs that cut off routed guests: Docker, firewalld, ufw, libvirt and iptables drop what a node
forwards, unless a rule accepts it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ganeti_vif.config.model import Config, Public
from ganeti_vif.doctor.forwarding import ForwardChain, Forwarded, Verdict, passages
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.marks import TABLE
from ganeti_vif.nic.nic import Mode, Nic

DOCKERS = "DOCKER-USER"
"""The chain that Docker calls first, and leaves to the administrator."""


@dataclass(slots=True)
class _Drop:
    """What one chain drops of one public link, and BY what."""

    by: str
    sent: list[Nic] = field(default_factory=list)
    answers: list[Nic] = field(default_factory=list)


def drops(nics: Iterable[Nic], config: Config, chains: Iterable[ForwardChain]) -> list[Failure]:
    """A Failure for each of CHAINS that certainly drops new connections of NICS, or the answers to them. Chains of ours
    are left out: their drops are wanted."""
    foreign = [chain for chain in chains if chain.table != TABLE]
    found: dict[tuple[int, str], _Drop] = {}
    known = dict(enumerate(foreign))
    for nic in nics if foreign else ():
        public = config.public_link(nic.link) if nic.mode is Mode.ROUTED else None
        for packet in _packets(nic, public) if public else ():
            for passage in passages(packet, foreign):
                if public and passage.verdict is Verdict.DROPPED:
                    number = next(one for one, chain in known.items() if chain is passage.chain)
                    drop = found.setdefault((number, public.name), _Drop(passage.by))
                    hit = drop.sent if packet.incoming == nic.tap else drop.answers
                    hit += [nic] if nic not in hit else []
    return [_failure(known[number], link, drop, config) for (number, link), drop in found.items()]


def _packets(nic: Nic, public: Public) -> Iterator[Forwarded]:
    """What NIC's guest sends first, and what comes back."""
    for version in (4, 6):
        if networks := nic.networks(version):
            own = networks[0].network_address
            yield Forwarded(version=version, incoming=nic.tap, outgoing=public.uplink, source=own, mark=public.mark)
            yield Forwarded(
                version=version,
                incoming=public.uplink,
                outgoing=nic.tap,
                destination=own,
                mark=public.mark,
                state="established",
            )


def _failure(chain: ForwardChain, link: str, drop: _Drop, config: Config) -> Failure:
    nics = drop.sent or drop.answers
    what = "sends" if drop.sent else "gets as an answer"
    more = (
        f" (and what {len(nics) - 1} more NICs of the link {link} {'send' if drop.sent else 'get'})" if nics[1:] else ""
    )
    public = config.public_link(link)
    assert public
    return Failure(f"{chain.where} drops what {nics[0].whom} {what}{more}: {drop.by}", accepting(chain, public.mark))


def accepting(chain: ForwardChain, mark: int) -> str:
    """The command by which CHAIN accepts the packets of a public link, which carry its MARK in both directions."""
    if chain.program:
        table = f"-t {chain.table} " if chain.table != "filter" else ""
        name = DOCKERS if DOCKERS in chain.chains else chain.name
        return f"{chain.program} {table}-I {name} -m mark --mark {mark:#010x} -j ACCEPT"
    return f"nft insert rule {chain.family} {chain.table} {chain.name} meta mark {mark:#010x} accept"
