# SPDX-License-Identifier: BSD-2-Clause
"""The administrator's command: its command line, its verbs, and their output."""
