# SPDX-License-Identifier: BSD-2-Clause
"""Binding files: the whole interface between this package and NFDHCPD or the responder."""
