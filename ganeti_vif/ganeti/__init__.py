# SPDX-License-Identifier: BSD-2-Clause
"""What Ganeti tells and leaves on a node: environments of its scripts, and its files."""
