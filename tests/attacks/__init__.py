# SPDX-License-Identifier: BSD-2-Clause
"""Attacks that are not our own: public tools, and frames from a grammar. The victim's kernel says whether they had success."""
