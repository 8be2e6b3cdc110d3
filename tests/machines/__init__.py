# SPDX-License-Identifier: BSD-2-Clause
"""The Debian package on Debian's own kernels, with udev and systemd, in QEMU: `make test-kernels`."""
