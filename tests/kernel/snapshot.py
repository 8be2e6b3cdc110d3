# SPDX-License-Identifier: BSD-2-Clause
"""Everything on a node that ganeti-vif may change, as text that can be compared.

Left out is what the kernel moves by itself: timers, carrier, statistics, and the routes that come with addresses.
"""

from __future__ import annotations

import json
import re
from typing import Any

SCRIPT = r"""
section() { printf '\n\001%s\n' "$1"; }
section links; ip -d -j link
section rules; ip rule; ip -6 rule
section routes; ip route show table all; ip -6 route show table all
section proxies; ip neigh show proxy; ip -6 neigh show proxy
section neighbours; ip neigh show nud permanent; ip -6 neigh show nud permanent
section shapers; tc qdisc show handle 7686: 2>/dev/null
section filters; nft --stateless list ruleset
section sysctls; cd /proc/sys/net && grep -r . ipv4/conf ipv4/neigh ipv4/ip_forward ipv6/conf ipv6/neigh 2>/dev/null
section files; for file in /run/ganeti-vif/nics /var/lib/nfdhcpd /var/lib/nfdhcpd.staging; do
    [ ! -e $file ] || find $file ! -type d -exec sh -c 'for file; do echo "== $file"; cat "$file"; done' - {} +
done
"""
Snapshot = dict[str, list[str]]


def parse(output: str) -> Snapshot:
    """What SCRIPT printed, by section."""
    parts = (part.partition("\n") for part in output.split("\001")[1:])
    found = {name: text.strip().splitlines() for name, _, text in parts}
    found["links"] = sorted(json.dumps(_still(link)) for link in json.loads("\n".join(found["links"])))
    # Of routes and sysctls the order means nothing, and the kernel changes it when something is made anew.
    found["routes"] = sorted(route.strip() for route in found["routes"] if " proto kernel " not in route)
    for section in ("proxies", "neighbours", "sysctls", "rules"):
        found[section] = sorted(found[section])
    return found


def _still(thing: Any) -> Any:
    """THING without what moves by itself."""
    if isinstance(thing, dict):
        return {key: _still(value) for key, value in thing.items() if not _moves(key)}
    if isinstance(thing, list):
        return sorted(flag for flag in thing if flag not in ("LOWER_UP", "NO-CARRIER")) if _is_flags(thing) else thing
    return thing


def _is_flags(thing: list[Any]) -> bool:
    return all(isinstance(item, str) for item in thing)


def _moves(key: str) -> bool:
    # A device that was up once keeps its queueing discipline; a bridge takes on what its ports can do at once.
    return key.endswith(("_timer", "so_max_size", "so_max_segs")) or key in ("operstate", "qdisc", "gro_max_size")


def without(shot: Snapshot, device: str) -> Snapshot:
    """SHOT without what the kernel itself keeps for DEVICE: the device and its sysctls."""
    return shot | {
        "links": [link for link in shot["links"] if f'"ifname": "{device}"' not in link],
        "sysctls": [line for line in shot["sysctls"] if f"/{device}/" not in line],
    }


def anew(shot: Snapshot) -> Snapshot:
    """SHOT without the numbers of devices: one that was made anew has another, and is as good."""
    return shot | {"links": sorted(re.sub(r'"ifindex": \d+, ', "", link) for link in shot["links"])}
