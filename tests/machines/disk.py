# SPDX-License-Identifier: BSD-2-Clause
"""Disks with a Debian system and Debian's kernel beside them: made once by mmdebstrap below build/machines.

The kernel package is unpacked and not installed: QEMU boots it directly, with a first root that only finds the disk.
No machine writes to a disk: what it changes is gone with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.guest_image import BUSYBOX, load_order, pack
from tests.package.root import MIRROR

IMAGE = Path(__file__).with_name("image")
"""What goes into a disk besides packages."""
NODE = (
    # what a node has anyway
    "dbus", "init-system-helpers", "iputils-ping", "kmod", "logrotate", "openssl", "procps", "systemd", "systemd-sysv", "udev",
    # what the package depends on, and recommends
    "adduser", "iproute2", "nftables", "python3", "python3-daemon", "python3-nftables", "python3-pyroute2",
    # a guest's DHCP client
    "busybox-static",
)  # fmt: skip
"""Packages of every machine."""
OTHERS = (
    "bridge-utils", "docker.io", "firewalld", "ganeti", "ifupdown", "iptables", "network-manager", "openvswitch-switch",
)  # fmt: skip
"""What else administrators have on a node."""
TESTS = (
    "dhcpcd-base", "isc-dhcp-client", "make", "ndisc6", "python3-dpkt", "python3-hypothesis", "python3-netaddr", "python3-pytest",
)  # fmt: skip
"""What tests/kernel needs."""
DISK_MODULES = ("crc32c_generic", "virtio_pci", "virtio_blk", "ext4")
UNNEEDED = ("sound", "drivers/gpu", "drivers/media", "drivers/infiniband", "drivers/scsi", "drivers/staging", "drivers/net/wireless",
    "drivers/net/ethernet", "drivers/iio", "drivers/usb", "drivers/hid", "drivers/mtd", "drivers/ata", "fs/xfs", "fs/btrfs")  # fmt: skip
"""Directories of modules that no machine of QEMU loads: they are half of what a disk would hold."""
WAY = 1
"""To be counted up when disks are made in another way by this module."""
SIZE = "6G"
"""Of the file system; the file has holes."""
LIMIT = 1800.0
"""Seconds for one program that makes a part of a disk."""


class DiskError(RuntimeError):
    """No disk can be made; the message says why."""


@dataclass(frozen=True)
class Disk:
    """What QEMU boots."""

    kernel: Path
    initrd: Path
    image: Path

    @property
    def version(self) -> str:
        """The kernel's, as `uname -r` says it."""
        return self.kernel.name.removeprefix("vmlinuz-")


def ensure(build: Path, suite: str, *more: str) -> Disk:
    """The disk of a Debian SUITE with NODE's packages and MORE, made if there is none by this recipe.

    Takes minutes and the network then, and no time from then on. Raises DiskError if it cannot be made.
    """
    packages = sorted({*NODE, *more})
    place = build / f"{suite}-{_recipe(suite, packages)}"
    build.mkdir(parents=True, exist_ok=True)
    with _locked(place.with_suffix(".lock")):
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=build, prefix="unfinished-") as name:
                work = Path(name)
                _make(work, suite, packages)
                (work / "disk").rename(place)
    return Disk(next(place.glob("vmlinuz-*")), place / "initrd", place / "ext4")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One maker at a time; the lock is the kernel's, so it ends with its holder."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _recipe(suite: str, packages: Sequence[str]) -> str:
    """Changes when anything of which a disk is made changes, and with WAY."""
    parts = [
        suite,
        MIRROR,
        SIZE,
        str(WAY),
        *packages,
        *DISK_MODULES,
        *UNNEEDED,
        *(path.read_text() for path in sorted(IMAGE.iterdir())),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def _make(work: Path, suite: str, packages: Sequence[str]) -> None:
    """Make WORK/disk: the file system's image, the kernel, and a first root."""
    disk, root = work / "disk", work / "root"
    disk.mkdir()
    _run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--format=directory", "--skip=output/dev",
        "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*", f"--include={','.join(packages)}",
        f'--customize-hook=sh {IMAGE}/customize "$1" amd64', suite, str(root), MIRROR,
    )  # fmt: skip
    _unpack_kernel(root)
    (kernel,) = root.glob("boot/vmlinuz-*")
    kernel = kernel.rename(disk / kernel.name)
    _run("depmod", "-b", str(root), kernel.name.removeprefix("vmlinuz-"))
    _make_initrd(root / "usr/lib/modules" / kernel.name.removeprefix("vmlinuz-"), disk / "initrd")
    options = ("-q", "-t", "ext4", "-E", "lazy_itable_init=1,lazy_journal_init=1")
    _run("mke2fs", *options, "-d", str(root), str(disk / "ext4"), SIZE)


def _unpack_kernel(root: Path) -> None:
    """Put the kernel and its modules where their package would."""
    (package,) = root.glob("var/tmp/linux-image-*.deb")
    excludes = [f"--exclude=*/kernel/{directory}" for directory in UNNEEDED]
    unpack = 'package=$1; shift; dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink "$@"'
    _run("sh", "-c", unpack, "unpack", str(package), "-C", str(root), *excludes)
    package.unlink()


def _make_initrd(modules: Path, initrd: Path) -> None:
    """A first root that loads what the disk needs, and goes on with the disk."""
    with tempfile.TemporaryDirectory(dir=initrd.parent) as name:
        root = Path(name)
        for directory in ("bin", "dev", "lib", "new", "proc"):
            (root / directory).mkdir()
        shutil.copy(BUSYBOX, root / "bin/busybox")
        order = load_order(modules, DISK_MODULES)
        for module, content in order:
            (root / "lib" / module).write_bytes(content)
        (root / "lib/order").write_text("".join(f"{module}\n" for module, _ in order))
        shutil.copy(IMAGE / "init", root / "init")
        (root / "init").chmod(0o755)
        initrd.write_bytes(pack(root))


def _run(*argv: str) -> None:
    """Run a program to its end. Raises DiskError with what it said if it failed."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT)
    except FileNotFoundError as missing:
        raise DiskError(f"{missing}") from None
    if done.returncode:
        raise DiskError(f"{argv[0]} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
