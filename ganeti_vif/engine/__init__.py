# SPDX-License-Identifier: BSD-2-Clause
"""The four steps of every verb: desired, actual, difference, apply. This room imports no other room."""
