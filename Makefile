# SPDX-License-Identifier: BSD-2-Clause
# demo, test, test-long, test-attacks, test-e2e, test-package, test-kernels, lint, mutants, deb, bench, install. Each but install gets what it needs with apt, as root, on Debian 12 or 13.
PYTHON = /usr/bin/python3
DESTDIR =

RUN_TIME = python3 python3-pyroute2 python3-nftables python3-daemon iproute2
DEMO = $(RUN_TIME) qemu-system-x86 busybox-static cpio xz-utils kmod util-linux
TEST = $(DEMO) python3-pytest python3-pytest-xdist python3-hypothesis python3-dpkt python3-netaddr nftables iputils-ping iputils-arping procps openvswitch-switch iptables arptables ebtables \
	isc-dhcp-client dhcpcd-base ndisc6 ovmf dnsmasq-base knot python3-dnspython
DEB = build-essential debhelper dh-python dpkg-dev fakeroot $(RUN_TIME)
ROOTS = lintian mmdebstrap
KERNELS = $(DEB) $(TEST) mmdebstrap e2fsprogs
E2E = $(TEST) $(DEB) mmdebstrap
# What attackers use: tests/attacks.
ATTACKS = $(TEST) thc-ipv6 dsniff yersinia ettercap-text-only hping3 nmap dhcpstarv keepalived
LINT = python3-venv

.PHONY: demo test test-long test-attacks test-attacks-short test-e2e test-package test-kernels test-kernels-short lint mutants deb bench install clean

demo:
	@tools/apt-needs $(DEMO)
	$(PYTHON) demo/demo.py

# Three at once on two processors: most of them wait for the kernel, for a program that starts, or for a time to pass.
test:
	@tools/apt-needs $(TEST)
	$(PYTHON) -m pytest -n 3 -m "not long" $(PYTEST)

# What takes minutes: UEFI firmware boots from the network.
test-long:
	@tools/apt-needs $(TEST)
	$(PYTHON) -m pytest -m long $(PYTEST)

# Public tools of attackers, a real guest, and frames from a grammar, against victims' kernels: docs/testing.md. The short
# form has fewer frames and a tool of each kind.
test-attacks:
	@tools/apt-needs $(ATTACKS)
	$(PYTHON) -m pytest tests/attacks $(PYTEST)

test-attacks-short:
	@tools/apt-needs $(ATTACKS)
	FRAMES=10000 $(PYTHON) -m pytest -n 2 tests/attacks -m short $(PYTEST)

# Real Ganeti and QEMU in namespaces: docs/testing.md. bench/migration needs the same.
test-e2e:
	@tools/apt-needs $(E2E)
	$(PYTHON) -m pytest tests/e2e $(PYTEST)

# mypy reads the types of what the tests import.
lint: build/lint/bin/ruff
	@tools/apt-needs $(TEST)
	build/lint/bin/ruff check . $(SCRIPTS)
	build/lint/bin/ruff format --check . $(SCRIPTS)
	$(MYPY) $(foreach package,$(PACKAGES),$(if $(findstring /,$(package)),,-p $(package))) -p demo
	$(MYPY) $(OF_TESTS) $(filter-out tests/unit/%,$(shell git ls-files 'tests/*.py' 'bench/*.py'))
	MYPYPATH=tests/unit $(MYPY) $(OF_TESTS) tests/unit
	set -e; for script in $(SCRIPTS); do $(MYPY) --scripts-are-modules $$script; done

MYPY = build/lint/bin/mypy --no-error-summary --python-executable $(PYTHON)
# A test may replace what a module has imported.
OF_TESTS = --implicit-reexport
SCRIPTS = $(shell git grep -lE '^\#!/usr/bin/python3' -- ':!*.*')

build/lint/bin/ruff:
	@tools/apt-needs $(LINT)
	$(PYTHON) -m venv build/lint
	build/lint/bin/pip install --quiet --disable-pip-version-check ruff==0.17.6 mypy==2.4.1

# Plants faults in the modules that decide whose a tap is and what a guest may do, and tells which of them no unit test
# notices. One module: make mutants FAULTS='ganeti_vif.desired.obstacle*'
mutants: build/mutants/bin/mutmut
	@tools/apt-needs $(TEST)
	build/mutants/bin/python tools/mutants $(FAULTS)

build/mutants/bin/mutmut:
	@tools/apt-needs $(LINT)
	$(PYTHON) -m venv --system-site-packages build/mutants
	build/mutants/bin/pip install --quiet --disable-pip-version-check mutmut==3.8.1

deb:
	@tools/apt-needs $(DEB)
	tools/build-deb build/deb
	@ls -l build/deb/*.deb

# Clean Debian 12 and 13 systems, in build/roots (made once, with the network), on which the package comes and goes.
test-package:
	@tools/apt-needs $(DEB) $(TEST) $(ROOTS)
	$(PYTHON) -m pytest tests/package $(PYTEST)

# Debian's own kernels in QEMU, with udev and systemd: docs/testing.md says what that takes. The short form is one boot of Debian 12's.
test-kernels:
	@tools/apt-needs $(KERNELS)
	$(PYTHON) -m pytest tests/machines $(PYTEST)

test-kernels-short:
	@tools/apt-needs $(KERNELS)
	$(PYTHON) -m pytest tests/machines -m short $(PYTEST)

SHARE = $(DESTDIR)/usr/share/ganeti-vif
LIB = $(DESTDIR)/usr/lib/ganeti-vif
USR = $(DESTDIR)/usr/lib
ETC = $(DESTDIR)/etc
PACKAGES = $(shell tools/packages)
PROGRAMS = ganeti-vif ganeti-vifd ganeti-vif-responder
ENTRY = ganeti_vif/entry
MODES = bridged routed openvswitch
INSTANCE_HOOKS = add start stop reboot migrate failover move modify rename remove export
HOOKS = $(INSTANCE_HOOKS:%=instance-%-post.d) instance-migrate-pre.d network-connect-pre.d network-connect-post.d network-disconnect-post.d \
	network-modify-post.d network-remove-post.d node-add-post.d node-modify-post.d node-remove-post.d cluster-verify-post.d watcher

# What the Debian package consists of. The modules are private: no other program can import them by accident.
install:
	set -e; for package in $(PACKAGES); do \
		install -d $(SHARE)/$$package; install -m 644 $$package/*.py $(SHARE)/$$package/; done
	sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog >$(SHARE)/VERSION
	set -e; for name in $(PROGRAMS) kvm-vif-bridge; do install -m 755 $(ENTRY)/$$name $(SHARE)/$(ENTRY)/; done
	install -m 755 hooks/ganeti-vif $(SHARE)/hooks/
	install -d $(LIB) $(DESTDIR)/usr/sbin $(ETC)/ganeti-vif $(ETC)/ganeti
	set -e; for name in $(PROGRAMS); do ln -sf ../share/ganeti-vif/$(ENTRY)/$$name $(DESTDIR)/usr/sbin/$$name; done
	ln -sf ../../share/ganeti-vif/$(ENTRY)/kvm-vif-bridge $(LIB)/kvm-vif-bridge
	ln -sf ../../share/ganeti-vif/hooks/ganeti-vif $(LIB)/hook
	set -e; for directory in $(HOOKS); do \
		install -d $(ETC)/ganeti/hooks/$$directory; \
		ln -sf /usr/lib/ganeti-vif/hook $(ETC)/ganeti/hooks/$$directory/50-ganeti-vif; done
	install -m 644 etc/ganeti-vif.conf $(ETC)/ganeti-vif/
	install -m 644 etc/ganeti-vif.conf $(SHARE)/
	install -d $(ETC)/ganeti-vif/profiles.d
	install -m 644 etc/profiles.d/*.nft $(ETC)/ganeti-vif/profiles.d/
	install -d $(USR)/systemd/networkd.conf.d $(USR)/systemd/network $(USR)/NetworkManager/conf.d
	install -m 644 etc/drop-ins/networkd.conf $(USR)/systemd/networkd.conf.d/ganeti-vif.conf
	install -m 644 etc/drop-ins/networkd.network $(USR)/systemd/network/05-ganeti-vif.network
	install -m 644 etc/drop-ins/udev.link $(USR)/systemd/network/05-ganeti-vif.link
	install -D -m 644 etc/drop-ins/udev.rules $(USR)/udev/rules.d/85-ganeti-vif.rules
	install -m 644 etc/drop-ins/NetworkManager.conf $(USR)/NetworkManager/conf.d/ganeti-vif.conf
	set -e; for script in kvm-vif-bridge $(foreach mode,$(MODES),network/$(mode)/up network/$(mode)/down); do \
		install -D -m 755 kvm-vif-bridge $(SHARE)/scripts/$$script; \
		install -D -m 755 kvm-vif-bridge $(ETC)/ganeti/$$script; done

clean:
	rm -rf build
