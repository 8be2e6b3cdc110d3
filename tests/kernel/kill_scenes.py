# SPDX-License-Identifier: BSD-2-Clause
"""In a node: what ganeti-vif does while kill_runner.py lets it die, and what is there before."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from collections.abc import Callable

import environment as gives
from dying import Tap, forked, manage, script, well  # first: it finds the product

import ganeti_vif.cli.command_line
import ganeti_vif.entry.vif_script
import ganeti_vif.system.node
from ganeti_vif.daemon.lives import Lives
from ganeti_vif.daemon.loop import Loop
from ganeti_vif.daemon.survey import look
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.engine.chains import table_of
from ganeti_vif.kernel.netlink.events import DeviceGone, Event
from ganeti_vif.lifecycle.recorded import recorded
from ganeti_vif.nic.life import Event as Happening
from ganeti_vif.reconcile.in_force import in_force
from ganeti_vif.system.ask import PROTOCOL
from ganeti_vif.system.claim_socket import ClaimSocket
from ganeti_vif.system.control import Question


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
        return ganeti_vif.entry.vif_script.main(self.environment)


class AttachRouted(Attach):
    def nic(self, tap: str) -> dict[str, str]:
        return dict(gives.routed(tap))


class AttachByHand(AttachRouted):
    def verb(self) -> int:
        return ganeti_vif.cli.command_line.main(["attach"], self.environment)


class AttachBridged(Attach):
    def nic(self, tap: str) -> dict[str, str]:
        return dict(gives.bridged(tap, NETWORK_TAGS="private-filtered", NETWORK_MAC_PREFIX="aa:00:00"))


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
            return ganeti_vif.cli.command_line.main(
                ["reconcile"], {}
            )  # the run that died had come to the end, or nearly so
        return ganeti_vif.cli.command_line.main(["detach", self.tap.name], {})


class GiveBack(Detach):
    """By hand somebody took a tap for a NIC's that is up and a port of another bridge: detach gives it back."""

    def __init__(self) -> None:
        self.tap = Tap()
        self.environment = gives.bridged(self.tap.name)
        for command in (
            "link add br9 type bridge",
            "link set br9 up",
            f"link set {self.tap.name} mtu 1400 master br9 up",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        self.before = self.device()
        well(forked(script(self.environment)))

    def device(self) -> str:
        shown = ["ip", "-o", "link", "show", self.tap.name] if self.tap else ["true"]
        return subprocess.run(shown, check=True, capture_output=True, text=True).stdout

    def verb(self) -> int:
        status = super().verb()
        return status or int(self.device() != self.before)

    def vanish(self) -> None:
        super().vanish()
        subprocess.run(["ip", "link", "del", "br9"], check=False, capture_output=True)


class Setup(Scene):
    def __init__(self) -> None:
        well(forked(manage("teardown")))

    def verb(self) -> int:
        return ganeti_vif.cli.command_line.main(["setup"], {})

    def leave(self) -> None:
        well(forked(manage("setup")))


class Teardown(Scene):
    def verb(self) -> int:
        return ganeti_vif.cli.command_line.main(["teardown"], {})

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
        return ganeti_vif.cli.command_line.main(["reconcile"], {})


class Daemon(Scene):
    """What the daemon does for one NIC, in a process of the test's own."""

    def __init__(self) -> None:
        self.tap = Tap()
        self.environment = gives.routed(self.tap.name)

    def served(self, events: list[Event], questions: list[Question], met: Callable[[], bool]) -> int:
        """It does what EVENTS and QUESTIONS ask for, until that is MET."""
        with ganeti_vif.system.node.Node() as node, ClaimSocket() as claims:
            loop = Loop(in_force(), node, claims)
            for event in events:
                loop.hear(event)
            for question in questions:
                loop.ask(question)
            while not met():
                loop.work()
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
        self.gone = DeviceGone(self.tap.name, socket.if_nametoindex(self.tap.name))
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
        with ganeti_vif.system.node.Node() as node:
            lives = Lives(in_force().config, node, Timers())
            events = (Happening.SPOKE, Happening.RELEASED) if here else (Happening.DEPARTS, Happening.CLAIMED)
            for event in events:
                lives.happen(self.tap.name, event)
        nic = recorded(self.tap.name)
        return 0 if nic and nic.standby != here else 1

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
        look(in_force(), at_once=True)
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
    "attach-by-hand": AttachByHand,
    "give-back": GiveBack,
    "setup": Setup,
    "teardown": Teardown,
    "reconcile": Reconcile,
}
