# SPDX-License-Identifier: BSD-2-Clause
"""The responder's process: its sockets, its loop, and the guests that it serves."""
