# SPDX-License-Identifier: BSD-2-Clause
"""The answers to guests: frames in, frames out. No sockets, no files, no clock."""
