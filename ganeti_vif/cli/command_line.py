# SPDX-License-Identifier: BSD-2-Clause
"""The command line of the administrator's command `ganeti-vif`. Its verbs are in cli/verbs.py."""

from __future__ import annotations

import argparse
import gc
import os
import shlex
import sys
from collections.abc import Callable, Mapping

from ganeti_vif.cli import cluster, config, network_flags, on_trial, rights, verbs
from ganeti_vif.cli.adopt import adopt
from ganeti_vif.cli.flags import add_common
from ganeti_vif.cli.help import HELP, INTERRUPTED
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.interruption import RUN, Interrupted
from ganeti_vif.system import signals
from ganeti_vif.system.complaint import complain

Verb = Callable[[argparse.Namespace, Mapping[str, str]], int]

VERBS: Mapping[str, tuple[Verb, bool, str]] = {
    "setup": (verbs.set_up, True, "make and repair private networks and public links"),
    "teardown": (verbs.tear_down, True, "remove private networks and public links that no VM uses"),
    "explain": (verbs.explain_nics, False, "show a NIC, its rules and what they counted, and what becomes of a packet"),
    "status": (verbs.show_status, False, "show private networks, public links and NICs"),
    "check": (verbs.check, False, "list each difference between what should be and what is; status 1 if there is one"),
    "confirm": (on_trial.confirm, True, "keep the configuration that setup --try applied"),
    "revert": (on_trial.revert, True, "take the configuration back that setup --try applied"),
    "cluster": (cluster.run, False, "show, check or reconcile all nodes of the cluster, from the master"),
    "config": (config.run, False, "show the configuration in force, or check a file"),
    "reconcile": (verbs.reconcile, True, "make the node what it should be, leftovers of dead taps included"),
    "adopt": (adopt, True, "take over the NICs of running guests that somebody else attached"),
    "doctor": (verbs.examine, False, "find conflicts with what else is on this node, and print what mends each"),
    "import": (verbs.import_settings, True, "turn settings of snf-network or gnt-networking into ours, in a new file"),
    "network": (verbs.networks, False, "create, destroy and show private networks of the whole cluster, by RAPI"),
    "attach": (verbs.attach_nic, True, "attach a NIC, described by flags or by Ganeti's environment"),
    "detach": (verbs.detach_nic, True, "take away what a NIC was given"),
}
"""The verbs in the order of the help: function, whether it may change the node, help text."""

WHOLE = ("confirm", "revert")
"""The verbs that change the node and have no --dry-run."""

ELSEWHERE = (verbs.import_settings, verbs.networks, config.run, cluster.run)
"""The verbs that do nothing on this node: they read and write plain files, or ask others. The last looks itself for
the right that it needs."""


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run one verb. Returns the exit status: 0, 1 if something is wrong on the node, or 130 if a signal interrupted it.

    Wrong usage ends the process with status 2.
    """
    gc.disable()  # a run is short, and on a full node garbage collection would take half of its time
    given = parser().parse_args(arguments)
    try:
        with signals.told(RUN.end):
            return _run(given, arguments, environment)
    except Interrupted as interrupted:
        complain(_half(interrupted, arguments))
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(given: argparse.Namespace, arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run the GIVEN verb if the caller has the right to. Returns the exit status."""
    verb: Verb = given.verb
    try:
        if verb not in ELSEWHERE:
            rights.require(arguments, changes=given.writes and not given.dry_run, locks=given.writes)
        return verb(given, environment)
    except Failure as failure:
        complain(failure)
        return 1


def _half(interrupted: Interrupted, arguments: list[str]) -> Failure:
    """The state after an INTERRUPTED run, and the command that completes it, which is the same command."""
    made = f"{RUN.standing} change{'s' if RUN.standing > 1 else ''}"
    stands = f"{made} made by then stay, and the rest is not done" if RUN.standing else "nothing was changed"
    return Failure(f"interrupted by {interrupted.signal}: {stands}", shlex.join(["ganeti-vif", *arguments]))


def parser() -> argparse.ArgumentParser:
    """The parser of the command line, with its help."""
    top = argparse.ArgumentParser(
        prog="ganeti-vif", description="Networks of a Ganeti node: private bridges, public links, NICs."
    )
    add_common(top)
    subparsers = top.add_subparsers(title="verbs", required=True, metavar="VERB")
    for name, (action, writes, text) in VERBS.items():
        one = subparsers.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}. {HELP[name].text}",
            epilog=_examples(name),
            formatter_class=_Formatter,
        )
        one.set_defaults(verb=action, writes=writes, dry_run=False, wrong=one.error)
        one.add_argument("--json", action="store_true", help="print one JSON object")
        if writes and name not in WHOLE:
            one.add_argument(
                "--dry-run", action="store_true", help="print the commands that would do it, and do nothing"
            )
        _add_own(name, one)
    return top


class _Formatter(argparse.HelpFormatter):
    """Fills paragraphs, but keeps the lines of examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)


def _examples(verb: str) -> str:
    lines = (f"  {command}\n      {meaning}" for command, meaning in HELP[verb].examples.items())
    return "\n".join(["examples:", *lines])


def _add_trial(verb: argparse.ArgumentParser) -> None:
    """Give VERB the flags of a trial."""
    text = "take the change back after some seconds, unless ganeti-vif confirm comes"
    verb.add_argument("--try", dest="on_trial", action="store_true", help=text)
    text = "how many seconds --try waits (default: %(default)s)"
    verb.add_argument("--timeout", type=_seconds, default=60, metavar="SECONDS", help=text)


def _seconds(text: str) -> int:
    """TEXT as a number of seconds, from 1 to a day. Raises ValueError if it is none."""
    if not text.isdecimal() or not 1 <= int(text) <= 86400:
        raise ValueError(text)
    return int(text)


def _add_own(name: str, verb: argparse.ArgumentParser) -> None:
    """Add the arguments that only the verb NAME has."""
    match name:
        case "setup" | "teardown":
            verb.add_argument(
                "--private", metavar="PREFIX=RANGES", help="only these private networks, as pvn=1-100,200"
            )
            uplink = "their uplink: none, 'vlan DEV +OFFSET', 'vxlan DEV +OFFSET [group ADDRESS]'"
            verb.add_argument("--uplink", help=uplink)
            verb.add_argument("--mtu", help="their MTU")
            if name == "setup":
                _add_trial(verb)
        case "status":
            verb.add_argument("instance", nargs="?", metavar="INSTANCE", help="only the NICs of this instance")
        case "explain":
            verb.add_argument("whom", metavar="TAP|IP|MAC|INSTANCE", help="whose NICs")
            packet = "'arp who-has IP tell IP', or 'from=IP to=IP proto=udp sport=67 dport=68 mac=MAC'"
            verb.add_argument("--packet", help=packet)
        case "import":
            file = "that new file (default: %(default)s)"
            verb.add_argument("--output", default=verbs.IMPORTED, metavar="FILE", help=file)
        case "attach":
            for flag, text in verbs.NIC_FLAGS.items():
                verb.add_argument(f"--{flag}", help=text, choices=verbs.NIC_CHOICES.get(flag))
        case "network":
            network_flags.add(verb)
        case "config":
            config.add(verb)
        case "cluster":
            cluster.add(verb)
        case "detach":
            verb.add_argument("tap", nargs="?", help="the tap (default: INTERFACE of Ganeti's environment)")
