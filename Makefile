# What there is to do: demo, test, lint, deb, install. Each installs what it needs with apt.
DESTDIR =
PACKAGES = config doors engine ganeti host_setup nfdhcpd_bridge node outside vif
SHARE = $(DESTDIR)/usr/share/ganeti-vif
LIB = $(DESTDIR)/usr/lib/ganeti-vif
ETC = $(DESTDIR)/etc

.PHONY: install
install:
	install -d $(SHARE) $(LIB) $(DESTDIR)/usr/sbin $(ETC)/ganeti-vif $(ETC)/ganeti
	for package in $(PACKAGES); do install -d $(SHARE)/$$package && install -m 644 $$package/*.py $(SHARE)/$$package/ || exit 1; done
	install -m 755 doors/ganeti-vif doors/kvm-vif-bridge $(SHARE)/doors/
	ln -sf ../share/ganeti-vif/doors/ganeti-vif $(DESTDIR)/usr/sbin/ganeti-vif
	ln -sf ../../share/ganeti-vif/doors/kvm-vif-bridge $(LIB)/kvm-vif-bridge
	install -m 644 etc/ganeti-vif.conf $(ETC)/ganeti-vif/
	install -m 755 kvm-vif-bridge $(ETC)/ganeti/kvm-vif-bridge
	for mode in bridged routed openvswitch; do install -d $(ETC)/ganeti/network/$$mode && \
		install -m 755 kvm-vif-bridge $(ETC)/ganeti/network/$$mode/up && \
		install -m 755 kvm-vif-bridge $(ETC)/ganeti/network/$$mode/down || exit 1; done
