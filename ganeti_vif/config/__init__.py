# SPDX-License-Identifier: BSD-2-Clause
"""The configuration: /etc/ganeti-vif/ganeti-vif.conf as typed, checked data."""
