# SPDX-License-Identifier: BSD-2-Clause
"""The kernel: one module for each interface of the kernel."""
