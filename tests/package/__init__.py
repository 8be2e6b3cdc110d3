# SPDX-License-Identifier: BSD-2-Clause
"""The Debian package, installed in clean Debian systems: `make test-package`."""
