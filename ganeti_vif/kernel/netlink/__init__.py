# SPDX-License-Identifier: BSD-2-Clause
"""Devices, routes, rules and neighbours: read by a decoder of ours, changed with pyroute2's messages."""
