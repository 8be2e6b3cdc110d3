# SPDX-License-Identifier: BSD-2-Clause
"""The whole node: what should be here, what is, and the way from one to the other."""
