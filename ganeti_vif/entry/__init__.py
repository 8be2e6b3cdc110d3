# SPDX-License-Identifier: BSD-2-Clause
"""Where other programs come in: the executables, Ganeti's script, and what every entry shares."""
