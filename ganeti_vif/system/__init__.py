# SPDX-License-Identifier: BSD-2-Clause
"""The rest of a node: files, sockets, processes, services. One module for each."""
