# SPDX-License-Identifier: BSD-2-Clause
"""Who may touch what: one module for each outside thing, pure data in the middle, arrows in one direction.

docs/architecture.md tells why. A new exception belongs there first.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from product import MODULES, PURE_ROOMS, ROOMS, importers, imports, room, rooms, top, tree
from samples import ROOT

PURE = sorted(
    module
    for module in MODULES
    if room(module) in PURE_ROOMS
    or module
    in {
        "ganeti_vif/cluster/creation.py",
        "ganeti_vif/cluster/glance.py",
        "ganeti_vif/cluster/leftovers.py",
        "ganeti_vif/cluster/links.py",
        "ganeti_vif/cluster/model.py",
        "ganeti_vif/config/clashes.py",
        "ganeti_vif/config/model.py",
        "ganeti_vif/config/trial.py",
        "ganeti_vif/daemon/tasks.py",
        "ganeti_vif/daemon/timers.py",
        "ganeti_vif/reconcile/moves.py",
        "nfdhcpd_bridge/binding.py",
        "nfdhcpd_bridge/reading.py",
    }
)
IMPURE = {
    "os",
    "posix",
    "socket",
    "_socket",
    "subprocess",
    "shutil",
    "pathlib",
    "glob",
    "fcntl",
    "time",
    "sys",
    "ctypes",
    "tempfile",
}
WRITERS = {
    "ganeti_vif/kernel/sysctl.py",
    "ganeti_vif/system/announced.py",
    "ganeti_vif/system/child.py",
    "ganeti_vif/system/claim_socket.py",
    "ganeti_vif/system/control.py",
    "ganeti_vif/system/in_force.py",
    "ganeti_vif/system/lock.py",
    "ganeti_vif/system/log.py",
    "ganeti_vif/system/new_file.py",
    "ganeti_vif/system/records.py",
    "ganeti_vif/system/state_socket.py",
    "ganeti_vif/system/trial_file.py",
    "nfdhcpd_bridge/files.py",
}

modules = pytest.mark.parametrize("module", MODULES)


def strings(module: str) -> Iterator[str]:
    """The string constants of MODULE, without those that stand alone as documentation."""
    alone = {
        id(node.value)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def names(module: str) -> set[str]:
    """Every name and attribute that MODULE mentions."""
    return {node.attr for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)} | {
        node.id for node in ast.walk(tree(module)) if isinstance(node, ast.Name)
    }


def writing_calls(module: str) -> Iterator[str]:
    """The calls in MODULE that make, change or remove files."""
    for node in ast.walk(tree(module)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        texts = [arg.value for arg in arguments if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        if (
            called
            in {
                f"os.{verb}"
                for verb in (
                    "rename",
                    "replace",
                    "unlink",
                    "remove",
                    "makedirs",
                    "mkdir",
                    "rmdir",
                    "link",
                    "symlink",
                    "chmod",
                    "fchmod",
                    "truncate",
                    "ftruncate",
                    "pwrite",
                    "write",
                )
            }
            or called == "open"
            and any(set(text) & set("wax+") and len(text) <= 3 for text in texts)
            or called.rpartition(".")[2] in ("write_text", "write_bytes", "touch")
        ):
            yield called


def test_this_test_sees_the_project() -> None:
    assert len(MODULES) > 130
    assert {"hooks/ganeti-vif", "ganeti_vif/entry/kvm-vif-bridge", "ganeti_vif/system/qemu/incoming.py"} <= set(MODULES)
    assert {room(module) for module in MODULES} == {"ganeti_vif", *ROOMS}
    assert imports("ganeti_vif/kernel/netlink/messages.py") >= {
        "pyroute2.netlink",
        "ganeti_vif.engine.objects",
        "ganeti_vif.engine.objects.Link",
    }
    assert "os.rename" in writing_calls("nfdhcpd_bridge/files.py")
    assert "open" in writing_calls("ganeti_vif/system/records.py")


def test_only_one_module_imports_pyroute2() -> None:
    assert importers("pyroute2") == {"ganeti_vif/kernel/netlink/messages.py"}


def test_only_one_module_imports_libnftables() -> None:
    assert importers("nftables") == {"ganeti_vif/kernel/nftables/changes.py"}


def test_only_one_module_imports_the_client_of_ganetis_remote_api_and_only_the_command_imports_that_room() -> None:
    assert importers("ganeti") == {"ganeti_vif/cluster/rapi.py"}
    assert {room(module) for module in importers("ganeti_vif.cluster")} == {"cluster", "cli"}


def test_nobody_but_kernel_and_system_runs_programs_or_opens_netlink_packets_or_sysctls() -> None:
    for module in MODULES:
        if room(module).startswith(("kernel", "system")):
            continue
        assert "subprocess" not in top(module), module
        assert not names(module) & {"AF_NETLINK", "AF_PACKET", "popen", "posix_spawn", "system"}, module
        assert not any(name.startswith(("exec", "spawn")) for name in names(module) if name not in ("exec",)), module
        assert not [text for text in strings(module) if "/proc/" in text or text.startswith("/sys/")], module


def test_programs_are_run_to_ask_open_vswitch_for_rules_of_xtables_for_a_timer_for_other_nodes_and_to_load_a_module() -> (
    None
):
    runners = {m for m in MODULES if any(i.startswith("subprocess") for i in imports(m))}
    assert runners == {
        "ganeti_vif/kernel/modules.py",
        "ganeti_vif/system/openvswitch.py",
        "ganeti_vif/system/other_nodes.py",
        "ganeti_vif/system/timer.py",
        "ganeti_vif/system/xtables.py",
    }


def test_files_are_written_in_few_places_and_bindings_in_one_of_them() -> None:
    assert {module for module in MODULES if any(writing_calls(module))} == WRITERS
    others = WRITERS - {"nfdhcpd_bridge/files.py"}
    for module in others:
        assert not any(name.startswith("nfdhcpd_bridge") for name in imports(module)), module
        assert "Binding" not in names(module), module


@modules
def test_an_import_never_points_upwards(module: str) -> None:
    here = room(module)
    if here == "ganeti_vif":
        assert rooms(module) == set(), "what all rooms are in imports none of them"
    else:
        assert rooms(module) <= {here, *ROOMS[: ROOMS.index(here)]}


@pytest.mark.parametrize("module", PURE)
def test_decisions_are_taken_without_looking_outside(module: str) -> None:
    assert not top(module) & IMPURE
    assert "open" not in names(module)


def test_tests_are_not_part_of_the_product() -> None:
    assert not [module for module in MODULES if top(module) & {"tests", "pytest", "hypothesis", "samples"}]


@modules
def test_no_import_goes_round_in_a_circle(module: str) -> None:
    def of_the_project(one: str) -> set[str]:
        paths = {f"{name.replace('.', '/')}.py" for name in imports(one)} & set(MODULES)
        return paths - {one}

    seen, queue = set[str](), of_the_project(module)
    while queue:
        seen |= queue
        queue = {other for one in queue for other in of_the_project(one)} - seen
    assert module not in seen


@modules
def test_a_module_can_be_read_in_one_sitting(module: str) -> None:
    assert len((ROOT / module).read_text(encoding="utf-8").splitlines()) <= 400


@modules
def test_a_function_fits_a_screen(module: str) -> None:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno
            assert node.end_lineno - node.lineno < 60, node.name


@modules
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(tree(module))


@modules
def test_messages_are_plain_ascii(module: str) -> None:
    """A Failure escapes anything else (ganeti_vif/engine/failure.py), and its reader would see the escape."""
    assert [text for text in strings(module) if not text.isascii()] == []


SKIPPED = {".git", "__pycache__", ".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache", "build"}


def files() -> Iterator[Path]:
    for directory, directories, found in os.walk(ROOT):
        directories[:] = [name for name in directories if name not in SKIPPED]
        yield from (Path(directory, name) for name in found)


def test_no_file_names_a_place_that_only_its_authors_have() -> None:
    private = [b"/".join([b"", b"work", b""]), b"/".join([b"..", b"shared"])]
    found = {
        str(path.relative_to(ROOT))
        for path in files()
        if path.is_file() and any(p in path.read_bytes() for p in private)
    }
    assert found == set()
