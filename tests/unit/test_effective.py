# SPDX-License-Identifier: BSD-2-Clause
"""`config show` prints a file that means the same as the configuration in force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from samples import ROOT

from ganeti_vif.cli.command_line import main
from ganeti_vif.config.effective import lines
from ganeti_vif.config.model import Config
from ganeti_vif.config.parse import EXAMPLES, SECTIONS, parse
from ganeti_vif.system import in_force

MUCH = """
[daemon]
verbose = yes
[bindings]
for = all
consumer = none
[responder]
rate = 7
nameservers = 192.0.2.53 2001:db8::53
boot-file = a.efi
boot-file-ipxe = http://192.0.2.1/x
option-43 = hex 01:02
option6-17 = text x
ntp = 192.0.2.1
[private pvn]
bridges = 1-3,7
uplink = vxlan eth2 +10000 group 239.1.1.1
mtu = 1400
link-local = any
claims = 3
guest-rate = 100M+2M/none
guest-limits = arp 500 multicast 0
nameservers = 10.0.0.1
boot-file =
[private pvn 2-3]
ntp =
lease-time = 7200
[private lab]
bridges = 9
uplink = vlan eth3 +100
[public public]
table = 222
uplink = eth1
subnets = 192.0.2.0/24 2001:db8::/64
gateways = 192.0.2.1 2001:db8::1
arp-source = 192.0.2.254
node-access = yes
conntrack = all
connections = 0
duplicates = refuse
guest-packets = 20k/100k+5k
dhcpv6 = stateful
routes = 10.0.0.0/8 via 192.0.2.9, 10.1.0.0/16 via 0.0.0.0
[names]
hosts-file = /var/lib/ganeti-vif/names/hosts
server = 192.0.2.53
zone = example.com
reverse-zones = 2.0.192.in-addr.arpa
key-file = /etc/ganeti-vif/names.key
links = public pvn1
ipv6 = no
[network web]
mtu = 1300
domain = example.com
boot-file =
"""


def same(config: Config) -> None:
    again = parse("\n".join(lines(config)))
    assert again == replace(config, profiles=())


@pytest.mark.parametrize("text", [MUCH, ""], ids=["much", "nothing"])
def test_what_is_shown_means_the_same(text: str) -> None:
    same(parse(text))


def test_what_is_shipped_means_the_same_when_it_is_shown() -> None:
    same(parse((ROOT / "etc" / "ganeti-vif.conf").read_text()))


@pytest.mark.parametrize(
    ("kind", "key"), [(kind, key) for kind, keys in SECTIONS.items() for key in keys if key in EXAMPLES]
)
def test_every_key_that_is_given_is_shown(kind: str, key: str) -> None:
    required = {
        "private": "bridges = 5\n",
        "public": "table = 9\nuplink = eth1\nsubnets = 192.0.2.0/24 2001:db8::/64\n",
    }
    word = " x" if kind in required else ""
    others = "".join(line for line in required.get(kind, "").splitlines(True) if not line.startswith(f"{key} "))
    config = parse(f"[{kind}{word}]\n{others}{key} = {EXAMPLES[key]}\n")
    assert any(line.startswith(f"{key} =") for line in lines(config))
    same(config)


def test_the_command_shows_what_is_in_force_and_checks_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(in_force, "PATH", str(tmp_path / "none"))
    path = tmp_path / "x.conf"
    path.write_text(MUCH)
    assert main(["--config", str(path), "config", "show"], {}) == 0
    assert parse(capsys.readouterr().out) == parse(MUCH)
    assert main(["config", "check", str(path)], {}) == 0
    assert capsys.readouterr().out == f"{path} is a correct configuration\n"
    path.write_text(MUCH.replace("table = 222", "table = 254"))
    assert main(["--config", str(path), "config", "check"], {}) == 1
    assert "table 254 is the kernel's own" in capsys.readouterr().out
    path.write_text(MUCH)
    (tmp_path / "profiles.d").mkdir()
    (tmp_path / "profiles.d" / "bad.nft").write_text("\x00")
    assert main(["config", "check", str(path)], {}) == 1
    assert "bad.nft" in capsys.readouterr().out
