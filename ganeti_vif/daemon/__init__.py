# SPDX-License-Identifier: BSD-2-Clause
"""The daemon ganeti-vifd: what it hears, what it answers, and what it does about each NIC."""
