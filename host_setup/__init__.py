# SPDX-License-Identifier: BSD-2-Clause
"""What a node needs before any VM: private networks, public links."""
