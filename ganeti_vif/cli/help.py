# SPDX-License-Identifier: BSD-2-Clause
"""The texts of --help and of the manual for each verb: its effects and limits, exit statuses, examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Help:
    """The help of a verb: TEXT, the meaning of its exit STATUSES, and EXAMPLES (purpose by command)."""

    text: str
    statuses: Mapping[int, str]
    examples: Mapping[str, str]


USAGE = 2
INTERRUPTED = 130
COMMON: Mapping[int, str] = {
    USAGE: "wrong usage",
    INTERRUPTED: "Ctrl-C, kill or a lost terminal ended it between two changes: two lines say what stands, and the "
    "command that completes it",
}
"""The exit statuses that every verb has."""

HELP: Mapping[str, Help] = {
    "setup": Help(
        text="Makes what is missing of the configuration's bridges, uplinks, routing tables and filters, and repairs "
        "what drifted. A bridge that is there already is adopted. Running guests stay connected. A network that "
        "cannot be set up is named, and all others are set up. A private network that is not configured any more "
        "stays: see teardown. The unit ganeti-vif runs it at boot.",
        statuses={
            0: "all is set up",
            1: "something could not be set up, or a running guest uses a link that is not configured: each is named",
        },
        examples={
            "ganeti-vif setup --dry-run": "the commands that it would take",
            "ganeti-vif setup": "after a change of the configuration",
            "ganeti-vif setup --try --timeout 120": "the same, and it takes itself back unless you confirm",
        },
    ),
    "confirm": Help(
        text="Keeps the configuration that setup --try applied. Without it the configuration before comes back after "
        "the time that setup was given, whatever becomes of the terminal, the daemon or the node.",
        statuses={0: "it stays", 1: "no configuration is on trial: it may have been taken back already"},
        examples={"ganeti-vif confirm": "after a look at the guests"},
    ),
    "revert": Help(
        text="Takes back at once what setup --try applied: the files, the configuration in force, and the networks "
        "that only the tried configuration has. A file that is given back leaves its tried text beside it, in a "
        "file that ends in .tried. A timer of systemd runs this command when nobody confirmed.",
        statuses={
            0: "the configuration before the trial is in force again",
            1: "no configuration is on trial, or a guest uses one of the new networks: it is named",
        },
        examples={"ganeti-vif revert": "do not wait for the end of the trial"},
    ),
    "teardown": Help(
        text="Removes the bridges, VLAN and VXLAN devices, routes, policy rules and filters that setup made: all, "
        "also those that the file has no more, or those that --private names. As long as a guest uses one of the "
        "networks that are meant, nothing is removed, and its tap is named. Spared are "
        "bridges that were there before setup (they lose our mark), the uplinks themselves, switches of the kernel "
        "(sysctl), bindings, and the configuration file: setup, the next boot and the next start of the daemon make "
        "again what it says. What is named by --private must not be in force: change the file before, and run setup.",
        statuses={0: "nothing of them is left", 1: "a guest uses one of them, or it is in force: nothing was removed"},
        examples={
            "ganeti-vif teardown --dry-run": "the commands that it would take",
            "ganeti-vif teardown --private pvn=51-100": "these bridges, which are not in the file any more",
            "ganeti-vif teardown": "all networks, before the package is removed",
        },
    ),
    "explain": Help(
        text="Shows NICs of this node: their addresses, and for each rule of their filters how many packets it let "
        "pass or dropped. With --packet it says what becomes of one packet that the guest sends, and by which rule. "
        "Changes nothing.",
        statuses={0: "shown", 1: "no NIC on this node is known by that name"},
        examples={
            "ganeti-vif explain tap0": "the NIC behind a tap",
            "ganeti-vif explain 192.0.2.5": "the NIC with an address",
            "ganeti-vif explain tap0 --packet 'from=192.0.2.9 to=198.51.100.1 proto=udp'": "why that does not arrive",
        },
    ),
    "status": Help(
        text="Shows private networks, public links, NICs with their state, when each guest last asked for its address "
        "and leased it, by which client, and the daemons. Changes nothing.",
        statuses={0: "shown, whatever the state is: check judges", 1: "the instance has no NIC on this node"},
        examples={
            "ganeti-vif status": "for the eye",
            "ganeti-vif status web.example.com": "one instance",
            "ganeti-vif status --json": "for a program",
        },
    ),
    "check": Help(
        text="Lists what is not as it should be, a line each. Changes nothing, and is meant for monitoring. While a "
        "guest starts or stops, or the daemon repairs, it may find what is gone a second later.",
        statuses={0: "all is as it should be: nothing is printed, or notes", 1: "something is not"},
        examples={"ganeti-vif check": "is all as it should be?", "ganeti-vif check --json": "the same for a program"},
    ),
    "cluster": Help(
        text="Asks all nodes of the cluster side by side, by Ganeti's own ssh, and shows what each answers, and in "
        "what their versions and configurations differ from most nodes of the same node group. On the master, as root. "
        "A node that does not answer is named, and keeps none of the others waiting. Nodes that are offline in Ganeti "
        "are not asked.",
        statuses={
            0: "every node is as it should be, and all are alike",
            1: "a node is not, does not answer, or differs: each is named",
        },
        examples={
            "ganeti-vif cluster status": "a line for each node",
            "ganeti-vif cluster check": "everything that is wrong, with its node",
            "ganeti-vif cluster reconcile --dry-run": "what it would change where",
        },
    ),
    "config": Help(
        text="Shows the configuration by which this node works, as one file with all defaults, or checks a file. "
        "Changes nothing, and looks at nothing but these files. Profiles are files of their own: check looks at those "
        "beside FILE.",
        statuses={0: "shown, or the file is correct", 1: "the file is not: two lines say where and what"},
        examples={
            "ganeti-vif config show": "what counts, also where the file says nothing",
            "ganeti-vif config check /root/new.conf": "before it replaces the present file",
        },
    ),
    "reconcile": Help(
        text="Makes and mends what setup makes and what attached NICs need, and removes what dead NICs left. It "
        "changes only networks of the configuration, taps that it has a record of, and what carries its mark: routes "
        "and policy rules with protocol 156, tables of nftables named ganeti_vif, its bindings and records. What "
        "others made stays. Running guests stay connected. The daemon does the same by itself.",
        statuses={0: "all is as it should be now", 1: "something cannot be mended so: it is named"},
        examples={
            "ganeti-vif reconcile --dry-run": "the commands that it would take",
            "ganeti-vif reconcile": "after check found something",
        },
    ),
    "adopt": Help(
        text="Takes over the NICs of running guests that another script attached, or whose records were lost, "
        "without a lost packet. Each is taken over whole or left as it is. Run setup before: see adopt.md.",
        statuses={0: "every NIC of a running guest is ours", 1: "one could not be taken over: it is named"},
        examples={
            "ganeti-vif adopt --dry-run": "each NIC, and the commands that it would take",
            "ganeti-vif adopt": "take them over",
        },
    ),
    "doctor": Help(
        text="Looks for what else is on this node and in the way of its networks: other network software, old rules, "
        "missing modules, Ganeti not calling us. It prints what mends each, and changes nothing itself.",
        statuses={0: "no conflict, though there may be notes", 1: "there is a conflict"},
        examples={"ganeti-vif doctor": "after installing anything that configures networks"},
    ),
    "import": Help(
        text="Reads settings of snf-network and gnt-networking, and /etc/network/interfaces, and writes our "
        "configuration of them into a new file, never over one that is there. Each setting is named with what "
        "becomes of it. Needs no right but to read those files.",
        statuses={
            0: "everything has a counterpart",
            1: "somebody has to look at a line of the report, or nothing is here",
        },
        examples={
            "ganeti-vif import --dry-run": "print the configuration and the report",
            "ganeti-vif import": "write the configuration beside ours",
        },
    ),
    "network": Help(
        text="Creates, destroys and shows private networks of the whole cluster, and connects instances to them, by "
        "Ganeti's remote API (RAPI): on the master, or anywhere with --rapi. It needs python3-ganeti-rapi. Ganeti has "
        "all data. A create is done whole or not at all, and two creators at once never get one link. See networks.md.",
        statuses={
            0: "done, or shown",
            1: "it could not be done, and two lines say why; or repair found what only you can mend",
        },
        examples={
            "ganeti-vif network create --subnet 10.0.0.0/24 --dhcp internal": "a network on the lowest free bridge",
            "ganeti-vif network connect web.example.com internal": "give an instance a NIC in it",
            "ganeti-vif network show internal": "who is in it, with addresses",
            "ganeti-vif network disconnect web.example.com internal": "take that NIC away again",
            "ganeti-vif network destroy internal": "its bridge is free for the next one",
            "ganeti-vif network free --json": "used and free links, for a program",
        },
    ),
    "attach": Help(
        text="Does what Ganeti's script does for a tap: filters it, connects it, writes its binding. All or nothing. "
        "For a NIC that Ganeti attached without us, adopt is simpler.",
        statuses={0: "attached", 1: "it could not be: two lines say why, and nothing was changed"},
        examples={
            "ganeti-vif attach --dry-run --instance web.example.com --interface tap0 --mac aa:00:00:00:00:05 "
            "--mode bridged --link pvn1": "the commands that it would take",
        },
    ),
    "detach": Help(
        text="Takes away what a NIC was given: its guest is cut off, if it runs. Its tap stays, it is QEMU's.",
        statuses={0: "nothing of it is left", 1: "there is no record of it, or something could not be removed"},
        examples={"ganeti-vif detach --dry-run tap0": "the commands that it would take"},
    ),
}
