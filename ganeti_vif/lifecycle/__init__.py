# SPDX-License-Identifier: BSD-2-Clause
"""A NIC's life on this node: attached, brought in step, handed over, detached."""
