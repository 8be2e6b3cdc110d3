#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs in a node: does one verb of ganeti-vif again and again, and lets it die at each single change.

    kill_runner.py VERB HOW AFTERWARDS

VERB is one of SCENES. HOW it dies: killed `after` the k-th change, killed before the k-th file that it wrote has its name
(`rename`), or not killed, but its k-th change will `fail`. AFTERWARDS: the same `again`, or a daemon's `restart`, or the tap goes (`vanish`) and
`reconcile` runs; nothing after a failure. Prints a JSON list: for each death the change at which it came, how what came then ended, and what `check` finds.

Each run is a fork of this process, which has imported the product already: a hundred runs take seconds.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = ["/usr/share/ganeti-vif", str(HERE)]

import environment as gives  # noqa: E402
import snapshot  # noqa: E402

import config.parse  # noqa: E402
import doors.cli  # noqa: E402
import doors.vif_script  # noqa: E402
import outside.netlink  # noqa: E402
import outside.nftables  # noqa: E402
import outside.node  # noqa: E402
from doors.agenda import Agenda  # noqa: E402
from doors.ask import PROTOCOL  # noqa: E402
from doors.duties import Duties  # noqa: E402
from doors.hand_over import HandOver  # noqa: E402
from doors.look import look  # noqa: E402
from doors.tasks import Task  # noqa: E402
from doors.tending import Tending  # noqa: E402
from engine.difference import Change  # noqa: E402
from engine.failure import Failure  # noqa: E402
from engine.objects import table_of  # noqa: E402
from engine.words import finding  # noqa: E402
from outside.control import Question  # noqa: E402
from outside.events import Event, Gone  # noqa: E402
from vif.attach import recorded  # noqa: E402

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
NOTHING = 10**6


class Tap:
    """A tap that lives until close()."""

    def __init__(self) -> None:
        self._descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        answer = fcntl.ioctl(self._descriptor, TUNSETIFF, struct.pack("16sH22x", b"tap%d", IFF_TAP | IFF_NO_PI))
        self.name = answer[:16].rstrip(b"\0").decode()

    def close(self) -> None:
        os.close(self._descriptor)


class Count:
    """Counts what happens, and ends this process (or raises) at one of them."""

    def __init__(self, last: int, how: str, told: int) -> None:
        self.seen, self.last, self.how, self.told = 0, last, how, told

    def end(self, what: str) -> None:
        os.write(self.told, what.encode())
        if self.how == "fail":
            raise Failure("the test lets this change fail", "nothing")
        os.kill(os.getpid(), signal.SIGKILL)


def dying(count: Count) -> None:
    """From now on this process dies at the change, or the rename, that COUNT says."""
    perform = outside.node.Node.perform
    rename = os.rename

    def counted(node: outside.node.Node, change: Change) -> None:
        count.seen += 1
        mine = count.seen == count.last
        if mine and count.how == "fail":
            count.end(finding(change))
        perform(node, change)
        if mine and count.how == "after":
            count.end(finding(change))

    def renamed(source: str, target: str) -> None:
        count.seen += 1
        if count.seen == count.last:
            count.end(f"the rename to {target}")
        rename(source, target)

    if count.how == "rename":
        os.rename = renamed  # type: ignore[assignment]
    else:
        outside.node.Node.perform = counted  # type: ignore[method-assign]


def forked(action: Callable[[], int], last: int = NOTHING, how: str = "after") -> dict[str, Any]:
    """Run ACTION in a process of its own. How it ended, what it printed, and at what it died or failed."""
    told, tells = os.pipe()
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.umask(0o077)
        out, err, status = io.StringIO(), io.StringIO(), 70
        try:
            dying(Count(last, how, tells))
            with redirect_stdout(out), redirect_stderr(err):
                status = action()
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        except BaseException:
            err.write(traceback.format_exc())
        os.write(writes, json.dumps({"out": out.getvalue(), "err": err.getvalue()}).encode())
        os._exit(status)
    os.close(tells)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        printed = json.loads(pipe.read() or b'{"out": "", "err": ""}')
    with os.fdopen(told, "rb") as pipe:
        at = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return printed | {"status": os.waitstatus_to_exitcode(status), "at": at}


def script(environment: dict[str, str]) -> Callable[[], int]:
    return lambda: doors.vif_script.main(environment)


def manage(*arguments: str) -> Callable[[], int]:
    return lambda: doors.cli.main(list(arguments), {})


def well(run: dict[str, Any]) -> None:
    assert run["status"] == 0 and not run["err"], run


def shot() -> snapshot.Snapshot:
    done = subprocess.run(["sh", "-c", snapshot.SCRIPT], capture_output=True, text=True, check=True)
    return snapshot.parse(done.stdout)


class Scene:
    """What is there before the verb, the verb, and how to leave everything as it was."""

    tap: Tap | None = None

    def __init__(self) -> None:
        """Everything is ready for the verb."""

    def verb(self) -> int:
        raise NotImplementedError

    def vanish(self) -> None:
        """The guest dies, if there is one."""
        if self.tap:
            self.tap.close()
            self.tap = None

    def leave(self) -> None:
        self.vanish()
        forked(manage("reconcile"))


class Attach(Scene):
    def __init__(self) -> None:
        self.tap = Tap()
        self.environment = self.nic(self.tap.name)

    def nic(self, tap: str) -> dict[str, str]:
        raise NotImplementedError

    def verb(self) -> int:
        return doors.vif_script.main(self.environment)


class AttachRouted(Attach):
    def nic(self, tap: str) -> dict[str, str]:
        return gives.routed(tap)


class AttachBridged(Attach):
    def nic(self, tap: str) -> dict[str, str]:
        return gives.bridged(tap, NETWORK_TAGS="private-filtered", NETWORK_MAC_PREFIX="aa:00:00")


class AttachAgain(AttachRouted):
    """The tap's name had another owner, who died without a word."""

    def __init__(self) -> None:
        before = Tap()
        well(
            forked(
                script(gives.bridged(before.name, 6, NETWORK_TAGS="private-filtered", NETWORK_MAC_PREFIX="aa:00:00"))
            )
        )
        before.close()
        super().__init__()
        assert self.tap and self.tap.name == before.name


class Detach(AttachRouted):
    def __init__(self) -> None:
        super().__init__()
        well(forked(script(self.environment)))

    def verb(self) -> int:
        assert self.tap
        if not os.path.exists(f"/run/ganeti-vif/nics/{self.tap.name}.json"):
            return 0  # the run that died had come to the end
        return doors.cli.main(["detach", self.tap.name], {})


class Setup(Scene):
    def __init__(self) -> None:
        well(forked(manage("teardown")))

    def verb(self) -> int:
        return doors.cli.main(["setup"], {})

    def leave(self) -> None:
        well(forked(manage("setup")))


class Reconcile(Scene):
    """A dead NIC of each mode, a live one that lost something, and a bridge and a public link that drifted."""

    def __init__(self) -> None:
        self.tap = Tap()
        well(forked(script(gives.routed(self.tap.name))))
        dead = [Tap(), Tap()]
        well(forked(script(gives.routed(dead[0].name, 6))))
        well(forked(script(gives.bridged(dead[1].name, 7))))
        for one in dead:
            one.close()
        chain = f"{self.tap.name}-in"
        for command in (
            f"nft flush chain netdev {table_of('netdev', chain)} {chain}",
            f"ip route flush table 222 dev {self.tap.name}",
            f"rm /var/lib/nfdhcpd/{self.tap.name}",
            "ip link set pvn1 down mtu 1400",
            "ip link del pvn2",
            "ip -6 rule flush protocol 156",
        ):
            subprocess.run(command.split(), check=True)

    def verb(self) -> int:
        return doors.cli.main(["reconcile"], {})


class Daemon(Scene):
    """What the daemon does for one NIC, in a process of the test's own."""

    def __init__(self) -> None:
        self.tap = Tap()
        self.environment = gives.routed(self.tap.name)

    def served(self, events: list[Event], questions: list[Question], met: Callable[[], bool]) -> int:
        """It does what EVENTS and QUESTIONS ask for, until that is MET."""
        with outside.node.Node() as node:
            duties = Duties(config.parse.load(), node)
            for event in events:
                duties.hear(event)
            for question in questions:
                duties.ask(question)
            while not met():
                duties.work()
                time.sleep(0.001)
        return 0


class DaemonAttach(Daemon):
    def verb(self) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [PROTOCOL, b"vif", *(f"{name}={value}".encode() for name, value in self.environment.items())]
        return self.served(
            [], [Question(words, time.monotonic(), theirs)], lambda: bool(select.select([ours], [], [], 0)[0])
        )


class DaemonDetach(Daemon):
    def __init__(self) -> None:
        super().__init__()
        assert self.tap
        well(forked(script(self.environment)))
        self.gone = Gone(self.tap.name, socket.if_nametoindex(self.tap.name))
        self.vanish()

    def verb(self) -> int:
        record = f"/run/ganeti-vif/nics/{self.gone.name}.json"
        return self.served([self.gone], [], lambda: not os.path.exists(record))


class HandedOver(Daemon):
    """Its guest moves to another node, or comes from there."""

    def __init__(self, here: bool) -> None:
        super().__init__()
        self.here = here
        well(forked(script(self.environment)))
        if here:
            well(forked(lambda: self.moved(here=False)))

    def moved(self, here: bool) -> int:
        assert self.tap
        with outside.node.Node() as node:
            agenda: Agenda[Task] = Agenda()
            HandOver(Tending(config.parse.load(), node, agenda), node, agenda).move(self.tap.name, here=here)
        nic = recorded(self.tap.name)
        return 0 if nic and nic.elsewhere != here else 1

    def verb(self) -> int:
        return self.moved(self.here)


class DaemonLetGo(HandedOver):
    def __init__(self) -> None:
        super().__init__(here=False)


class DaemonAnswer(HandedOver):
    def __init__(self) -> None:
        super().__init__(here=True)


class DaemonLook(Reconcile):
    """The look is a process of its own, which goes on when its daemon dies: so it is that which is killed."""

    def verb(self) -> int:
        look(config.parse.load(), at_once=True)
        return 0


def successor() -> int:
    """A daemon that starts, until it has looked at the node and done what came of that."""
    with outside.node.Node() as node:
        duties = Duties(config.parse.load(), node)
        duties.work()
        while duties._child:
            select.select(duties.descriptors, [], [])
            duties.work()
        while duties.patience() == 0:
            duties.work()
    return 0


SCENES = {
    "daemon-attach": DaemonAttach,
    "daemon-detach": DaemonDetach,
    "daemon-let-go": DaemonLetGo,
    "daemon-answer": DaemonAnswer,
    "daemon-look": DaemonLook,
    "attach-routed": AttachRouted,
    "attach-bridged": AttachBridged,
    "attach-again": AttachAgain,
    "detach": Detach,
    "setup": Setup,
    "reconcile": Reconcile,
}


def deaths(kind: type[Scene], how: str, afterwards: str) -> Iterator[dict[str, Any]]:
    """One report for each place at which the verb can die, until a run ends by itself."""
    clean = shot()
    for last in range(1, NOTHING):
        scene = kind()
        before = shot() if how == "fail" else {}
        run = forked(scene.verb, last, how)
        if not run["at"]:
            well(run)
            scene.leave()
            return
        report: dict[str, Any] = {"at": run["at"], "status": run["status"], "errors": run["err"]}
        if how == "fail":
            report["left"] = compared(before, shot())
        elif afterwards in ("again", "restart"):
            then = forked(scene.verb if afterwards == "again" else successor)
            report |= {"then": [then["status"], then["err"]], "check": forked(manage("check"))["out"].splitlines()}
        else:
            scene.vanish()
            then = forked(manage("reconcile"))
            report |= {"then": [then["status"], then["err"]], "check": forked(manage("check"))["out"].splitlines()}
            report["left"] = compared(clean, shot())
        scene.leave()
        yield report
        if report.get("left"):
            clean = shot()  # so that each leftover is told once


def compared(before: snapshot.Snapshot, after: snapshot.Snapshot) -> list[str]:
    """What differs, as lines of a diff."""
    found = []
    for section in before.keys() | after.keys():
        old, new = before.get(section, []), after.get(section, [])
        found += [f"-{section}: {line}" for line in old if line not in new]
        found += [f"+{section}: {line}" for line in new if line not in old]
    return found


def main(verb: str, how: str, afterwards: str) -> int:
    print(json.dumps(list(deaths(SCENES[verb], how, afterwards))))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
