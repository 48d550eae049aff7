# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports of which other hosts a host must reach (docs/production.md, "Ports"). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Target:
    """A port of another host, and what it is for."""

    host: str
    address: str
    port: int
    purpose: str


@dataclass(frozen=True)
class StorePorts:
    """The ports of etcd members: of the federation store for greyds and for each other, of the engines."""

    client: int
    peer: int
    engine: int


def targets(host: str, hosts: Mapping[str, Mapping[str, Any]], ports: StorePorts) -> Iterator[Target]:
    """Return what a host must reach. ``hosts`` is what the federation file and the inventory make of all."""
    own = hosts[host]
    for name, other in hosts.items():
        if name == host:
            continue
        wanted: list[tuple[int, str]] = []
        # A witness has no cluster, and talks with members of the federation store only.
        if other["cluster"] != own["cluster"] and other["cluster"] and own["cluster"]:
            wanted += [(other["api_port"], "key-value API"), (other["control_port"], "control plane")]
        elif own["engine"] == "etcd" and other["cluster"] == own["cluster"]:
            wanted.append((ports.engine, "engine between its members"))
        if other["member"] and own["voter"]:
            wanted.append((ports.client, "federation store"))
        if other["member"] and own["member"]:
            wanted.append((ports.peer, "federation store between its members"))
        for port, purpose in wanted:
            yield Target(name, other["address"], int(port), purpose)
