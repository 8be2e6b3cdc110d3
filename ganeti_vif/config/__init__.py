"""The configuration: /etc/ganeti-vif/ganeti-vif.conf as typed, checked data."""
