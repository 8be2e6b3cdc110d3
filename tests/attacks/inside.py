# SPDX-License-Identifier: BSD-2-Clause
"""A real QEMU guest that attacks: its kernel is given frames by a program, each with what its virtio card is to say beside it.

The guest has Debian's Python, and a file of frames. Both are in a second part of its initramfs: the kernel unpacks one
part after the other.
"""

from __future__ import annotations

import _socket
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab import Guest, Image, ensure
from tests.lab.guest_image import pack

from .conftest import ROOT
from .grammar import Sent
from .site import Site

SEND = """\
import _socket, sys
SOL_PACKET, PACKET_VNET_HDR = 263, 15
card = _socket.socket(_socket.AF_PACKET, _socket.SOCK_RAW, 0)
card.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
card.bind(("eth0", 0))
for number, line in enumerate(open("/frames")):
    try:
        card.send(bytes.fromhex(line))
    except OSError:
        print(number)
"""
"""Sends each line of /frames, and prints the numbers of those that the guest's own kernel refused."""
PYTHON = Path("/usr/bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
LIBRARY = Path(sysconfig.get_path("stdlib"))
DYNAMIC = LIBRARY / "lib-dynload"
MODULES = ("os.py", "encodings/__init__.py", "encodings/aliases.py", "encodings/utf_8.py")
"""All that Python needs of its library to run SEND."""


@dataclass
class Attacker:
    """A running guest with FRAMES to send."""

    guest: Guest
    frames: Sequence[Sent]

    def attack(self) -> list[int]:
        """Send the frames. Returns the numbers of those that the guest's kernel did not take."""
        said = self.guest.run(f"{PYTHON} -I -S /send.py").output
        assert re.fullmatch(r"(\d+\n)*", said), said
        return [int(line) for line in said.split()]


@contextmanager
def attacker(site: Site, frames: Sequence[Sent]) -> Iterator[Attacker]:
    """A guest behind the attacker's tap of SITE, which is to send FRAMES. It has an address or none: it needs none."""
    assert site.card
    with tempfile.TemporaryDirectory() as place:
        image = _with_frames(ensure(ROOT / "build"), Path(place), frames)
        with Guest(site.node, "attacker", image, [(site.card, site.cast.mac)], memory_mb=160) as guest:
            guest.wait_ready()
            guest.run("ip link set eth0 up")
            yield Attacker(guest, frames)


def _with_frames(image: Image, place: Path, frames: Sequence[Sent]) -> Image:
    root = place / "root"
    root.mkdir()
    (root / "send.py").write_text(SEND, encoding="ascii")
    (root / "frames").write_text("".join(f"{(beside + one).hex()}\n" for one, beside in frames), encoding="ascii")
    for path in _python():
        copy = root / path.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    # Python looks for this directory, and complains if there is none.
    (root / DYNAMIC.relative_to("/")).mkdir(parents=True, exist_ok=True)
    initrd = place / "initrd"
    initrd.write_bytes(image.initrd.read_bytes() + pack(root))
    return Image(image.kernel, initrd)


def _python() -> Iterator[Path]:
    """The files of Debian's Python: the program, its libraries, and what of its library SEND needs."""
    shown = subprocess.run(["ldd", PYTHON], check=True, capture_output=True, text=True).stdout
    yield PYTHON
    yield from map(Path, re.findall(r"(/\S+) \(0x", shown))
    yield from (LIBRARY / name for name in MODULES)
    if "_socket" not in sys.builtin_module_names:
        yield Path(_socket.__file__)
