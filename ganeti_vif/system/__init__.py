# SPDX-License-Identifier: BSD-2-Clause
"""What else is on a node: files, sockets, processes, services. One module for each."""
