# SPDX-License-Identifier: BSD-2-Clause
"""The process that serves guests: its sockets, its loop, and whom it serves."""
