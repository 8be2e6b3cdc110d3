# SPDX-License-Identifier: BSD-2-Clause
"""What Ganeti writes on every node about the cluster: /var/lib/ganeti/ssconf_* (ganeti src/Ganeti/WConfd/Ssconf.hs)."""

from __future__ import annotations

import os

from ganeti_vif.system import settings

VM_CAPABLE = "/var/lib/ganeti/ssconf_node_vm_capable"


def vm_capable() -> bool:
    """Whether instances may run on this node: a master may be there for the cluster only. Lines are `NODE=True`; where
    nothing is said of this node, they may."""
    here = os.uname().nodename.partition(".")[0]
    said = dict(line.partition("=")[::2] for line in (settings.text(VM_CAPABLE) or "").splitlines())
    return not any(name.partition(".")[0] == here and value == "False" for name, value in said.items())
