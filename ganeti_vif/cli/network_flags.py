# SPDX-License-Identifier: BSD-2-Clause
"""The command line of `ganeti-vif network`. Its verbs are in cli/network.py, imported when one is run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

VERBS: Mapping[str, str] = {
    "create": "create a network: take the lowest free link, add the network, connect it. All or nothing",
    "destroy": "disconnect and remove a network that no NIC is in. Its link is free then",
    "connect": "give an instance a NIC in a network, at once if its guest runs",
    "disconnect": "take the NIC away that an instance has in a network, whatever its index is now",
    "list": "show all networks",
    "show": "show a network, and who is in it",
    "free": "show which links are used, by whom, and which are free",
    "repair": "finish what a killed create or destroy left, and name what nobody but you can mend",
}
"""The verbs of `ganeti-vif network`, with their help."""


def add(network: argparse.ArgumentParser) -> None:
    """Give the parser NETWORK its verbs."""
    subparsers = network.add_subparsers(title="verbs", required=True, metavar="VERB", dest="network_verb")
    for name, text in VERBS.items():
        one = subparsers.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        one.set_defaults(wrong=one.error)
        _own(name, one)
        _common(one)


def _common(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
    rapi = "where Ganeti's remote API is (default: this node, which must be the master)"
    verb.add_argument("--rapi", metavar="HOST[:PORT]", default="", help=rapi)
    credentials = "a file with NAME PASSWORD of a user that may write (default: the file of Ganeti's own users)"
    verb.add_argument("--credentials", metavar="FILE", default="", help=credentials)
    certificate = (
        "the certificate of the remote API, or of its signer (default: this node's, or what this system trusts)"
    )
    verb.add_argument("--certificate", metavar="FILE", default="", help=certificate)
    links = "the links of private networks, as pvn=1-100 (default: those of the configuration)"
    verb.add_argument("--links", metavar="PREFIX=RANGES", default="", help=links)


def _own(name: str, verb: argparse.ArgumentParser) -> None:
    """Add the arguments that only the verb NAME has."""
    match name:
        case "create":
            _create(verb)
        case "destroy":
            verb.add_argument("name", metavar="NAME", help="the network, by name or UUID")
            verb.add_argument("--disconnect", action="store_true", help="remove the NICs that are in it first")
        case "connect" | "disconnect":
            verb.add_argument("instance", metavar="INSTANCE", help="the instance")
            verb.add_argument("name", metavar="NAME", help="the network, by name or UUID")
            reboot = "reboot the instance if its guest does not get the change while it runs"
            verb.add_argument("--reboot", action="store_true", help=reboot)
            if name == "connect":
                verb.add_argument("--ip", default="pool", help="its address: pool (a free one), none, or an address")
                verb.add_argument("--name", dest="nic", default="", help="a name for the NIC")
            else:
                verb.add_argument("--nic", default="", help="which NIC, by UUID, name or address, if there are several")
        case "show":
            verb.add_argument("name", metavar="NAME", help="the network, by name or UUID")
        case "repair":
            verb.add_argument("--dry-run", action="store_true", help="print what it would do, and do nothing")
            older = "leave a network alone that was added less than that ago (default: %(default)s minutes)"
            verb.add_argument("--older", type=int, default=10, metavar="MINUTES", help=older)


def _create(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", metavar="NAME", help="its name")
    verb.add_argument("--subnet", required=True, type=_text(IPv4Network), help="its IPv4 subnet, as 10.0.0.0/24")
    verb.add_argument("--gateway", type=_text(IPv4Address), help="its IPv4 gateway")
    verb.add_argument("--subnet6", type=_text(IPv6Network), help="its IPv6 subnet")
    verb.add_argument("--gateway6", type=_text(IPv6Address), help="its IPv6 gateway")
    verb.add_argument("--mac-prefix", default="", metavar="auto|PREFIX", help="the MAC prefix of its NICs")
    isolate = "share a link with other such networks; the guard separates them by MAC prefix (tag private-filtered)"
    verb.add_argument("--isolate", choices=["mac"], help=isolate)
    verb.add_argument("--tag", action="append", default=[], help="a tag for it; may be repeated")
    verb.add_argument("--dhcp", action="store_true", help="give its guests their addresses by DHCP (tag nfdhcpd)")
    groups = "the node groups that it is in, separated by commas (default: all)"
    verb.add_argument("--groups", metavar="GROUP,...", default="", help=groups)


def _text(kind: type[IPv4Network | IPv6Network | IPv4Address | IPv6Address]) -> Callable[[str], str]:
    """A parser of texts that are a KIND of address or subnet."""

    def parse(text: str) -> str:
        try:
            return str(kind(text))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse
