#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs in a node: a TFTP server (RFC 1350) with the options that firmware uses (RFC 2348, RFC 2349). It only reads.

    tftp_server.py DIRECTORY ADDRESS

Prints a line for each file that it was asked for. Each transfer has its own socket and thread, as the protocol wants it.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
from pathlib import Path

READ, DATA, ACKNOWLEDGE, ERROR, AGREE = 1, 3, 4, 5, 6
TRIES, PATIENCE = 10, 2.0


def serve(directory: Path, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((address, 69))
        print("ready", flush=True)
        while True:
            request, client = server.recvfrom(1024)
            threading.Thread(target=answer, args=(directory, address, family, request, client), daemon=True).start()


def answer(directory: Path, address: str, family: int, request: bytes, client: tuple[str, int]) -> None:
    words = [word.decode("ascii", "replace") for word in request[2:].split(b"\0")]
    if struct.unpack_from("!H", request)[0] != READ:
        return
    print(words[0], flush=True)
    options = {key.lower(): value for key, value in zip(words[2::2], words[3::2], strict=False)}
    with socket.socket(family, socket.SOCK_DGRAM) as ours:
        ours.bind((address, 0))
        ours.connect(client)
        ours.settimeout(PATIENCE)
        path = directory / words[0].lstrip("/")
        if not path.is_file():
            ours.send(struct.pack("!HH", ERROR, 1) + b"no such file\0")
            return
        transfer(ours, path.read_bytes(), options)


def transfer(ours: socket.socket, content: bytes, options: dict[str, str]) -> None:
    size = int(options.get("blksize", "512"))
    agreed = {"blksize": str(size), "tsize": str(len(content))}
    accepted = "".join(f"{key}\0{value}\0" for key, value in agreed.items() if key in options)
    if accepted and not said(ours, struct.pack("!H", AGREE) + accepted.encode("ascii"), 0):
        return
    for number, at in enumerate(range(0, len(content) + 1, size), 1):
        if not said(ours, struct.pack("!HH", DATA, number & 0xFFFF) + content[at : at + size], number & 0xFFFF):
            return


def said(ours: socket.socket, packet: bytes, number: int) -> bool:
    """Whether the client acknowledged the PACKET with this NUMBER."""
    for _ in range(TRIES):
        ours.send(packet)
        try:
            while True:
                kind, acknowledged = struct.unpack_from("!HH", ours.recv(1024))
                if kind == ERROR:
                    return False
                if (kind, acknowledged) == (ACKNOWLEDGE, number):
                    return True
        except TimeoutError:
            continue
        except OSError:
            return False
    return False


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
