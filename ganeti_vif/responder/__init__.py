# SPDX-License-Identifier: BSD-2-Clause
"""What a guest is answered: frames in, frames out. No sockets, no files, no clock."""
