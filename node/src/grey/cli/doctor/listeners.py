# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which program listens on a port, as far as this user may see it."""

from __future__ import annotations

import ipaddress
import sys
from contextlib import suppress
from pathlib import Path

_LISTEN = "0A"


def holder(address: str, port: int) -> str | None:
    """Return ``pid 123 (nginx)`` for who listens on an address and port, None when that cannot be seen.

    Who listens on all addresses counts too.
    """
    inodes = {f"socket:[{inode}]" for inode in _inodes(address, port)}
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                if str(descriptor.readlink()) in inodes:
                    name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                    return f"pid {process.name} ({name})"
    return None


def _inodes(address: str, port: int) -> set[str]:
    wanted = ipaddress.ip_address(address)
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                host, _, number = fields[1].partition(":")
                local = _address(host)
                mine = local.is_unspecified or local == wanted
                if fields[3] == _LISTEN and int(number, 16) == port and mine:
                    found.add(fields[9])
    return found


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an address as the kernel prints it: words of four bytes in this machine's order."""
    data = bytes.fromhex(text)
    words = (
        int.from_bytes(data[at : at + 4], "big").to_bytes(4, sys.byteorder) for at in range(0, len(data), 4)
    )
    found = ipaddress.ip_address(b"".join(words))
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
