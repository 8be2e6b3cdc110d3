# SPDX-License-Identifier: BSD-2-Clause
"""Bindings as the real NFDHCPD takes them, and who gets one.

`served` reads a binding the way NFDHCPD 0.16 does, mistakes included: it splits at each `=`, takes an empty
value for none, and refuses the whole file for an MTU that is no number or a subnet with host bits.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import BRIDGED, CONFIG, PUBLIC, ROUTED, context, nic_of

from ganeti_vif.config.model import Bindings, Config, Consumer, For
from ganeti_vif.desired.needs import needs
from ganeti_vif.engine.difference import Alter, Make, Remove
from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.engine.objects import Binding, Link
from ganeti_vif.nic.nic import Nic
from nfdhcpd_bridge import binding, files

KEYS = (
    "INDEV",
    "MAC",
    "HOSTNAME",
    "IP",
    "SUBNET",
    "GATEWAY",
    "SUBNET6",
    "GATEWAY6",
    "MTU",
    "PRIVATE",
    "MACSPOOF",
)


def served(text: str) -> dict[str, object]:
    """What NFDHCPD makes of TEXT. Raises ValueError or TypeError for a file that it refuses."""
    found: dict[str, object] = dict.fromkeys(KEYS)
    for line in text.split("\n"):
        for key in KEYS:
            if line.startswith(f"{key}="):
                found[key] = line.strip().split("=")[1] or None
                if key == "MTU":
                    found[key] = int(found[key])  # type: ignore[call-overload]
    for key, kind in (("SUBNET", IPv4Network), ("SUBNET6", IPv6Network)):
        if found[key] is not None:
            found[key] = kind(found[key])
    if not (found["MAC"] and found["HOSTNAME"]):
        raise ValueError("ignored without a word")
    return found


def bindings(nic: Nic, config: Config = CONFIG, **changes: object) -> list[Binding]:
    wanted = needs(nic, config, context(nic, **changes))
    return [thing for thing in wanted.all.values() if isinstance(thing, Binding)]


def text_for(nic: Nic, config: Config = CONFIG, **changes: object) -> str:
    (one,) = bindings(nic, config, **changes)
    return one.text


def with_bindings(**given: object) -> Config:
    return replace(CONFIG, bindings=Bindings(**given))  # type: ignore[arg-type]


def test_a_routed_nic_is_served_on_its_tap() -> None:
    nic = nic_of(ROUTED)
    (one,) = bindings(nic)
    assert (one.directory, one.tap) == ("/var/lib/nfdhcpd", "tap0")
    assert served(one.text) == dict.fromkeys(KEYS) | {
        "INDEV": "tap0",
        "MAC": "aa:00:09:09:63:36",
        "HOSTNAME": "i1.example.com",
        "IP": "10.77.1.2",
        "SUBNET": ip_network("10.77.1.0/24"),
        "GATEWAY": "10.77.1.1",
        "SUBNET6": ip_network("2001:db8:77::/64"),
        "GATEWAY6": "2001:db8:77::1",
    }


def test_a_bridged_nic_is_served_by_its_bridge_under_the_name_of_its_tap() -> None:
    (one,) = bindings(nic_of(BRIDGED))
    assert (one.tap, served(one.text)["INDEV"]) == ("tap0", "br0")


def test_the_file_is_plain_ascii_lines_without_quotes_or_blanks() -> None:
    for nic in (nic_of(ROUTED), nic_of(BRIDGED), nic_of(ROUTED, IP=None)):
        text = text_for(nic)
        assert text.isascii()
        assert text.endswith("\n")
        assert "\r" not in text
        for line in text.splitlines():
            key, separator, value = line.partition("=")
            assert key.isidentifier()
            assert separator
            assert value
            assert not set(value) & set("= \t\"'")
            assert value != "None"


def test_it_names_the_nic_so_that_a_later_run_knows_whose_it_is() -> None:
    assert binding.parse(text_for(nic_of(ROUTED)))[binding.MARK] == ROUTED["INTERFACE_UUID"]
    assert binding.MARK not in KEYS
    assert not any(key.startswith(binding.MARK) for key in KEYS)


def test_nothing_that_a_no_would_turn_on_is_ever_written() -> None:
    found = served(text_for(nic_of(ROUTED)))
    assert found["PRIVATE"] is None
    assert found["MACSPOOF"] is None


@pytest.mark.parametrize(("mtu", "written"), [(1500, None), (9000, 9000), (1450, 1450), (None, None)])
def test_the_mtu_is_only_told_when_it_is_not_ethernets(mtu: int | None, written: int | None) -> None:
    routed = text_for(nic_of(ROUTED), uplink=Link(name="eth1", mtu=mtu))
    bridged = text_for(nic_of(BRIDGED), bridge=Link(name="br0", kind="bridge", mtu=mtu))
    assert served(routed)["MTU"] == served(bridged)["MTU"] == written
    assert ("MTU" in routed) == ("MTU" in bridged) == (written is not None)


def test_an_instance_with_disable_ipv6_is_offered_no_ipv6() -> None:
    found = served(text_for(nic_of(ROUTED, TAGS="disable_ipv6")))
    assert (found["IP"], found["SUBNET6"], found["GATEWAY6"]) == ("10.77.1.2", None, None)


def test_an_instance_with_disable_ipv4_is_offered_no_ipv4() -> None:
    found = served(text_for(nic_of(ROUTED, TAGS="disable_ipv4")))
    assert (found["IP"], found["SUBNET"], found["GATEWAY"]) == (None, None, None)
    assert found["SUBNET6"] == ip_network("2001:db8:77::/64")


def test_a_nic_with_ipv6_only_is_served_ipv6_only() -> None:
    found = served(text_for(nic_of(ROUTED, IP=None)))
    assert (found["IP"], found["SUBNET"], found["GATEWAY"]) == (None, None, None)
    assert found["GATEWAY6"] == "2001:db8:77::1"


def test_no_prefix_is_told_to_a_guest_whose_ipv6_address_it_would_not_make() -> None:
    config = with_bindings(consumer=Consumer.NFDHCPD)
    assert served(text_for(nic_of(ROUTED, IP="2001:db8:77::5"), config))["SUBNET6"] is None
    assert served(text_for(nic_of(ROUTED, NETWORK_SUBNET6="2001:db8:77::/48"), config))["SUBNET6"] is None


def test_our_responder_is_told_of_an_ipv6_address_that_slaac_would_not_make() -> None:
    text = text_for(nic_of(ROUTED, IP="2001:db8:77::5"))
    assert (served(text)["SUBNET6"], served(text)["GATEWAY6"]) == (ip_network("2001:db8:77::/64"), "2001:db8:77::1")
    assert "IP6=2001:db8:77::5\n" in text
    assert "IP6" not in text_for(nic_of(ROUTED))


def test_an_address_without_a_subnet_is_not_told() -> None:
    """NFDHCPD would load it, and fail at each request."""
    config = with_bindings(wanted_for=For.ALL)
    found = served(text_for(nic_of(BRIDGED, NETWORK_SUBNET=None), config))
    assert (found["IP"], found["SUBNET"], found["GATEWAY"]) == (None, None, None)


def test_the_public_links_subnet_helps_out_where_the_network_has_none() -> None:
    found = served(text_for(nic_of(ROUTED, NETWORK_UUID=None), with_bindings(wanted_for=For.ROUTED)))
    assert (found["IP"], found["SUBNET"]) == ("10.77.1.2", PUBLIC.subnets[0])


def test_the_public_links_gateway_helps_out_too() -> None:
    found = served(text_for(nic_of(ROUTED, NETWORK_UUID=None), with_bindings(wanted_for=For.ROUTED)))
    assert found["GATEWAY"] == "10.77.1.1"


@pytest.mark.parametrize(
    ("wanted_for", "tagged_bridged", "bridged", "tagged_routed", "routed"),
    [(For.TAGGED, 1, 0, 1, 0), (For.ROUTED, 0, 0, 1, 1), (For.ALL, 1, 1, 1, 1)],
)
def test_who_gets_a_binding(
    wanted_for: For, tagged_bridged: int, bridged: int, tagged_routed: int, routed: int
) -> None:
    config = with_bindings(wanted_for=wanted_for, directory="/srv/b")
    for given_, tags, expected in (
        (BRIDGED, "nfdhcpd", tagged_bridged),
        (BRIDGED, "other", bridged),
        (ROUTED, "x nfdhcpd", tagged_routed),
        (ROUTED, None, routed),
    ):
        found = bindings(nic_of(given_, NETWORK_TAGS=tags), config)
        assert [one.directory for one in found] == ["/srv/b"] * expected


@pytest.mark.parametrize("wanted_for", list(For))
def test_without_a_consumer_there_are_no_bindings(wanted_for: For) -> None:
    config = with_bindings(wanted_for=wanted_for, consumer=Consumer.NONE)
    assert bindings(nic_of(ROUTED), config) == bindings(nic_of(BRIDGED), config) == []


@given(
    address=st.none() | st.ip_addresses(v=4),
    subnet=st.none() | st.ip_addresses(v=4, network="10.0.0.0/8").map(lambda a: IPv4Network((a, 24), strict=False)),
    gateway=st.none() | st.ip_addresses(v=4),
    subnet6=st.none() | st.just(IPv6Network("2001:db8::/64")),
    gateway6=st.none() | st.ip_addresses(v=6),
    mtu=st.none() | st.integers(68, 65535),
)
def test_whatever_is_known_nfdhcpd_never_refuses_the_file_nor_fails_at_a_request(**given_: object) -> None:
    text = binding.text(uuid="u", device="tap0", mac="aa:00:00:00:00:01", hostname="i1", **given_)  # type: ignore[arg-type]
    found = served(text)
    assert (found["IP"] is None) == (found["SUBNET"] is None) == (given_["address"] is None or given_["subnet"] is None)
    if found["GATEWAY"]:
        assert found["IP"]
        assert IPv4Address(str(found["GATEWAY"])) == given_["gateway"]
    assert found["MTU"] == given_["mtu"]
    if found["GATEWAY6"]:
        assert found["SUBNET6"]


def test_another_address_or_owner_is_another_identity_and_another_gateway_is_not() -> None:
    text = text_for(nic_of(ROUTED))
    same = binding.identity(text_for(nic_of(ROUTED, NETWORK_GATEWAY="10.77.1.3")))
    assert binding.identity(text) == same
    for change in (
        {"IP": "10.77.1.3"},
        {"MAC": "aa:00:09:09:63:37"},
        {"INTERFACE_UUID": "0" * 8 + BRIDGED["INTERFACE_UUID"][8:]},
        {"NETWORK_SUBNET6": None},
    ):
        assert binding.identity(text_for(nic_of(ROUTED, **change))) != same


# The files themselves


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "nfdhcpd")


def test_a_file_appears_whole_readable_by_all_and_nothing_lies_beside_it(directory: str) -> None:
    one = Binding(directory=directory, tap="tap0", text="MAC=aa\nHOSTNAME=i1\n")
    before = os.umask(0o077)  # as Ganeti's node daemon runs us
    try:
        files.perform(Make(one))
    finally:
        os.umask(before)
    path = Path(directory, "tap0")
    assert path.read_text(encoding="ascii") == one.text
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(directory) == ["tap0"]
    assert os.listdir(f"{directory}.staging") == []
    assert [*files.read([one])] == [one]


def test_a_directory_that_had_to_be_made_can_be_entered_by_all(directory: str) -> None:
    before = os.umask(0o077)
    try:
        files.perform(Make(Binding(directory=directory, tap="tap0", text="MAC=aa\n")))
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o755


@pytest.mark.parametrize(("old", "new", "unlinked"), [("IP=1\n", "IP=2\n", True), ("IP=1\n", "IP=1\nMTU=9\n", False)])
def test_an_old_identity_is_unlinked_before_a_new_one_is_written(
    directory: str, old: str, new: str, unlinked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    actual = Binding(directory=directory, tap="tap0", text=old)
    files.perform(Make(actual))
    gone: list[str] = []
    real = os.unlink

    def unlink(path: str) -> None:
        gone.append(path)
        real(path)

    monkeypatch.setattr(os, "unlink", unlink)
    files.perform(Alter(actual, replace(actual, text=new)))
    assert (f"{directory}/tap0" in gone) == unlinked
    assert Path(directory, "tap0").read_text(encoding="ascii") == new


def test_the_final_name_is_closed_after_it_was_given(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFDHCPD follows a close-after-write of the final name, and no rename."""
    events: list[str] = []
    real_rename, real_close = os.rename, os.close

    def rename(old: str, new: str) -> None:
        real_rename(old, new)
        events.append(f"rename {os.path.basename(new)}")

    def close(descriptor: int) -> None:
        events.append(f"close {os.readlink(f'/proc/self/fd/{descriptor}')}")
        real_close(descriptor)

    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(os, "close", close)
    files.perform(Make(Binding(directory=directory, tap="tap0", text="MAC=aa\n")))
    assert events == ["rename tap0", f"close {directory}/tap0"]


def test_removing_takes_what_a_crash_left_beside_with_it(directory: str) -> None:
    one = Binding(directory=directory, tap="tap0", text="MAC=aa\n")
    files.perform(Make(one))
    Path(f"{directory}.staging", "tap0").write_text("MAC", encoding="ascii")
    files.perform(Remove(one))
    assert os.listdir(directory) == os.listdir(f"{directory}.staging") == []
    with pytest.raises(Gone):
        files.perform(Remove(one))


def test_only_files_with_our_mark_are_ours(directory: str) -> None:
    ours = Binding(directory=directory, tap="tap0", text=f"{binding.MARK}=u\nMAC=aa\n")
    files.perform(Make(ours))
    Path(directory, "tap1").write_text(f"MAC=aa\nTAGS={binding.MARK}=u\n", encoding="ascii")
    Path(directory, "tap2").mkdir()
    assert [*files.read_ours(directory)] == [ours]
    assert [*files.read_ours(f"{directory}/nowhere")] == []


def test_a_directory_that_cannot_be_written_is_a_failure_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="ascii")
    with pytest.raises(Failure, match=f"{tmp_path}/file/tap0"):
        files.perform(Make(Binding(directory=f"{tmp_path}/file", tap="tap0", text="MAC=aa\n")))
