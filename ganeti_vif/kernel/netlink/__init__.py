# SPDX-License-Identifier: BSD-2-Clause
"""Devices, routes, rules and neighbours: our own decoder reads them, pyroute2's messages change them."""
