# SPDX-License-Identifier: BSD-2-Clause
"""Looking for a device: what cannot be one is not there, and that is all."""

from __future__ import annotations

from typing import cast

from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel.netlink.links import devices
from ganeti_vif.kernel.netlink.query import Query


class Kernel:
    """Answers as the kernel does to a name that is longer than IFNAMSIZ - 1: ERANGE."""

    def get(self, kind: int, body: bytes) -> bytes:
        raise Failure("the kernel refused to answer: Numerical result out of range", "")


def test_a_name_that_is_too_long_for_a_device_is_that_of_no_device() -> None:
    assert devices(cast(Query, Kernel()), ["public_network_42"]).by_name == {}
