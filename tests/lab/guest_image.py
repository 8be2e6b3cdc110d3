# SPDX-License-Identifier: BSD-2-Clause
"""The guest's kernel and initramfs: Debian's cloud kernel, Debian's busybox, and the scripts in image/.

The kernel package is downloaded once into the build directory and only unpacked; whoever wants a newer one removes that
directory.  The initramfs is made again if the kernel, busybox or a script has changed.
"""

import contextlib
import fcntl
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).with_name("image")
BUSYBOX = Path("/bin/busybox")
PACKAGES_HINT = "the laboratory needs the Debian packages cpio and busybox-static"
META_PACKAGE = "linux-image-cloud-amd64"
# button and evdev: without them a guest does not notice that it is told to shut down
MODULES = ("virtio_pci", "virtio_net", "af_packet", "ipv6", "button", "evdev")
# scripts, each with its place in the image
PLACES = {
    "init": "init",
    "udhcpc": "etc/udhcpc/default.script",
    "dhcp": "bin/dhcp",
    "powerbtn": "etc/acpi/PWRF/00000080",
}


class ImageError(RuntimeError):
    """There is no guest image and none can be made; the message says what to do."""


@dataclass(frozen=True)
class Image:
    """What QEMU boots."""

    kernel: Path
    initrd: Path


def ensure(build: Path) -> Image:
    """The guest image, made if needed: a download and some seconds at first, a moment and no network from then on."""
    build.mkdir(parents=True, exist_ok=True)
    with _locked(build / "guest.lock"):
        root = build / "guest-kernel"
        if not root.exists():
            _get_kernel(root)
        kernel = next(root.glob("boot/vmlinuz-*"))
        initrd = build / f"guest-initrd-{_fingerprint(kernel)}"
        if not initrd.exists():
            for old in build.glob("guest-initrd-*"):
                old.unlink()
            _make_initrd(next(root.glob("**/modules.builtin")).parent, initrd)
    return Image(kernel, initrd)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One maker at a time; the lock is the kernel's, so it ends with its holder."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*argv: str, cwd: Path, input: bytes | None = None, hint: str) -> bytes:
    try:
        return subprocess.run(argv, cwd=cwd, input=input, capture_output=True, check=True, timeout=300).stdout
    except FileNotFoundError:
        raise ImageError(f"no program '{argv[0]}'; {hint}") from None
    except subprocess.CalledProcessError as failed:
        raise ImageError(f"{' '.join(argv)}: {failed.stderr.decode(errors='replace').strip()}\n{hint}") from None


def _get_kernel(root: Path) -> None:
    """Download and unpack the kernel package; `root` appears when it is complete, never half done."""
    hint = f"is the package list there (apt-get update), and the network?  {root} is all that is needed"
    with tempfile.TemporaryDirectory(dir=root.parent) as name:
        work = Path(name)
        depends = _run("apt-cache", "depends", "--important", META_PACKAGE, cwd=work, hint=hint).decode()
        packages = re.findall(r"Depends: (linux-image-\S+)", depends)
        if not packages:
            raise ImageError(f"{META_PACKAGE} depends on no kernel: {depends!r}; {hint}")
        _run("apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", packages[0], cwd=work, hint=hint)
        (package,) = work.glob("*.deb")
        _run("dpkg-deb", "-x", str(package), "unpacked", cwd=work, hint=hint)
        (work / "unpacked").rename(root)


def _fingerprint(kernel: Path) -> str:
    """Changes when anything that goes into the initramfs, or the way of making it, changes."""
    digest = hashlib.sha256(kernel.name.encode())
    for path in [BUSYBOX, Path(__file__), *(SCRIPTS / name for name in PLACES)]:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except FileNotFoundError as missing:
            raise ImageError(f"{missing}; Debian package busybox-static has busybox") from None
    return digest.hexdigest()[:16]


def load_order(modules: Path, names: Sequence[str]) -> list[tuple[str, bytes]]:
    """File name and content of the modules NAMES below the directory MODULES, each after those that it depends on.

    What is built into the kernel is left out. Raises ImageError if a module is not there.
    """
    built_in = {_module_name(line) for line in (modules / "modules.builtin").read_text().split()}
    files = {_module_name(str(path)): path for path in modules.glob("kernel/**/*.ko*")}
    order: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in order or name in built_in:
            return
        if name not in files:
            raise ImageError(f"no module {name} under {modules}")
        content = files[name].read_bytes()
        if files[name].suffix == ".xz":
            content = lzma.decompress(content)
        # A module says itself what it depends on; modules.dep exists only where the kernel is installed.
        for depends in re.findall(rb"\0depends=([^\0]*)\0", content):
            for other in depends.decode().split(","):
                if other:
                    add(_module_name(other))
        order[name] = content

    for name in names:
        add(name)
    return list(order.items())


def _module_name(path: str) -> str:
    return Path(path).name.partition(".ko")[0].replace("-", "_")


def _make_initrd(modules: Path, initrd: Path) -> None:
    with tempfile.TemporaryDirectory(dir=initrd.parent) as name:
        root = Path(name) / "root"
        for directory in (
            "bin",
            "dev",
            "etc/udhcpc",
            "etc/acpi/PWRF",
            "lib/modules",
            "proc",
            "root",
            "run",
            "sys",
            "tmp",
            "var/log",
            "var/run",
        ):
            (root / directory).mkdir(parents=True)
        order = load_order(modules, MODULES)
        for module, content in order:
            (root / "lib/modules" / module).write_bytes(content)
        (root / "lib/modules/order").write_text("".join(f"{module}\n" for module, _ in order))
        shutil.copy(BUSYBOX, root / "bin/busybox")
        for applet in _run(str(BUSYBOX), "--list", cwd=root, hint=PACKAGES_HINT).decode().split():
            if applet != "busybox":
                (root / "bin" / applet).symlink_to("busybox")
        for script, place in PLACES.items():
            shutil.copy(SCRIPTS / script, root / place)
            (root / place).chmod(0o755)
        archive = pack(root)
        done = Path(name) / "initrd"
        done.write_bytes(archive)
        done.rename(initrd)


def pack(root: Path) -> bytes:
    """The directory ROOT as an initramfs. Raises ImageError if there is no cpio."""
    names = b"".join(os.fsencode(path.relative_to(root)) + b"\0" for path in sorted(root.rglob("*")))
    command = ("cpio", "--null", "--create", "--format=newc", "--quiet", "--owner=0:0")
    return _run(*command, cwd=root, input=names, hint=PACKAGES_HINT)
