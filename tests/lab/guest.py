# SPDX-License-Identifier: BSD-2-Clause
"""Guest: a real QEMU machine on a node, its network cards on real taps, as Ganeti runs it.

Software emulation only (TCG), also where there is /dev/kvm: what the laboratory shows must not depend on the machine
that it runs on, and a KVM inside a virtual machine can be slower than none.  The node's end of the cards, taps in a
bridge or routed, is the business of whoever made the taps.
"""

import subprocess
from collections.abc import Sequence

from .agent import Agent, GuestError, Result
from .guest_image import Image
from .namespace import PATIENCE, Node
from .tap import Tap

QEMU = "qemu-system-x86_64"
# No machine, processor or parameter that was tried makes the boot faster (2 s of processor time).
# no_timer_check: on a loaded host the kernel may find the emulated clock broken, and panic.
KERNEL_ARGS = (
    "quiet console=ttyS0 lab_agent=ttyS1 no_timer_check tsc=reliable mitigations=off random.trust_cpu=on panic=0"
)


class Guest:
    """A virtual machine that boots from here on; it is gone after stop(), the `with` block, or with its node.

    The taps are handed over: QEMU alone holds them afterwards, so they vanish the moment that it ends, however it ends.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        image: Image,
        nics: Sequence[tuple[Tap, str]] = (),
        *,
        ids: Sequence[str] = (),
        memory_mb: int = 96,
        kernel_args: str = "",
        qemu_args: Sequence[str] = (),
    ) -> None:
        """`nics`: each card's tap and MAC, eth0 first; a tap with IFF_VNET_HDR is recognized by QEMU itself.

        `ids`: what QEMU calls the cards (nic0, nic1, …).
        """
        self.node = node
        self.name = name
        self._console = f"/run/lab-console-{name}"
        argv = [
            QEMU,
            "-name",
            name,
            "-machine",
            "pc",
            "-accel",
            "tcg",
            "-m",
            str(memory_mb),
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-kernel",
            str(image.kernel),
            "-initrd",
            str(image.initrd),
            "-append",
            f"{KERNEL_ARGS} {kernel_args}".strip(),
            "-chardev",
            f"file,id=console,path={self._console}",
            "-serial",
            "chardev:console",
            "-chardev",
            "stdio,id=agent,signal=off",
            "-serial",
            "chardev:agent",
        ]
        for number, (tap, mac) in enumerate(nics):
            card = ids[number] if ids else f"nic{number}"
            argv += ["-netdev", f"tap,id={card},fd={tap.fd}"]
            argv += ["-device", f"virtio-net-pci,netdev={card},mac={mac},romfile="]
        self._qemu = node.popen(
            [*argv, *qemu_args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[tap.fd for tap, _ in nics]
        )
        for tap, _ in nics:
            tap.hand_over()
        assert self._qemu.stdin is not None
        assert self._qemu.stdout is not None
        self._agent = Agent(self._qemu.stdout.fileno(), self._qemu.stdin.fileno(), name)

    def __enter__(self) -> "Guest":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Guest({self.name!r})"

    @property
    def pid(self) -> int:
        """The process id of QEMU."""
        return self._qemu.pid

    def wait_ready(self, *, timeout: float = PATIENCE) -> None:
        """Return when the guest answers commands, after its start or after a reboot of it."""
        try:
            self._agent.wait_ready(timeout)
        except GuestError as error:
            self.stop()
            stderr = self._qemu.stderr.read() if self._qemu.stderr else ""
            raise GuestError(f"{error}\nQEMU said: {stderr}\nthe console shows: {self.console()}") from None

    def run(self, command: str, *, check: bool = True, timeout: float = PATIENCE) -> Result:
        """Run a shell command (busybox) as root in the guest; see Agent.run."""
        return self._agent.run(command, check=check, timeout=timeout)

    def console(self) -> str:
        """What the guest's kernel and init printed so far."""
        try:
            return self.node.path(self._console).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_ended(self, *, timeout: float = PATIENCE) -> None:
        """Return when QEMU has ended by itself (the guest powered off, or someone killed it)."""
        self._qemu.wait(timeout)

    def stop(self) -> None:
        """Pull the plug; a second call does nothing."""
        self._qemu.kill()
        self._qemu.wait(timeout=PATIENCE)
