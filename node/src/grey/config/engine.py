# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section ``node.store`` of the node's file: the engine under the cluster's data."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from grey.config import units, values
from grey.config.errors import BadValue
from grey.config.model import Endpoint, TlsFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grey.config.errors import Fault
    from grey.config.yamlfile import Document, KeyPath

DEFAULT_QUOTA_BYTES = 2 * 1024**3
LEAST_QUOTA_BYTES = 64 * 1024**2
"""Below this, the space that etcd sets aside for itself counts."""

_HERE = ("node", "store")
_OF_ETCD = ("endpoint", "tls", "quota", "member")


class EngineMember(msgspec.Struct, frozen=True):
    """The etcd that runs beside greyd. Paths are absolute.

    ``peer`` is an address and port: where it listens for the other members, and what it tells them.
    ``members`` are all of the engine's by name, this one too. ``tls`` is of the engine's own CA.
    """

    name: str
    etcd: str
    data_dir: str
    run_dir: str
    marker_file: str
    peer: Endpoint
    tls: TlsFiles
    members: dict[str, Endpoint]
    token: str


class DataStore(msgspec.Struct, frozen=True):
    """The engine under the cluster's data.

    With ``etcd``, ``endpoint`` is ``unix:/FOLDER/NAME:NUMBER`` without ``tls``, or ``HOST:PORT`` with it, and
    there is a quota; ``member`` is None where no member runs beside greyd. With ``sqlite`` all are None.
    """

    engine: Literal["sqlite", "etcd"]
    endpoint: str | None = None
    tls: TlsFiles | None = None
    quota_bytes: int | None = None
    member: EngineMember | None = None


def read(plain: dict[str, Any]) -> DataStore:
    """Return a checked section."""
    if plain["engine"] == "sqlite":
        return DataStore("sqlite")
    return DataStore(
        engine="etcd",
        endpoint=plain["endpoint"],
        tls=TlsFiles(**plain["tls"]) if "tls" in plain else None,
        quota_bytes=units.size(plain["quota"]) if "quota" in plain else DEFAULT_QUOTA_BYTES,
        member=_member(plain["member"]) if "member" in plain else None,
    )


def _member(plain: dict[str, Any]) -> EngineMember:
    return EngineMember(
        **plain
        | {
            "peer": values.endpoint(plain["peer"]),
            "tls": TlsFiles(**plain["tls"]),
            "members": {name: values.endpoint(peer) for name, peer in plain["members"].items()},
        }
    )


def faults(plain: dict[str, Any], document: Document) -> Iterator[Fault]:
    """Return what is wrong between the keys of a section that the schema has passed."""
    if plain["engine"] == "sqlite":
        for key in _OF_ETCD:
            if key in plain:
                yield document.fault(
                    (*_HERE, key), "only the engine etcd has this key", "remove it, or write engine: etcd"
                )
        return
    if "endpoint" not in plain:
        yield document.fault(
            (*_HERE, "endpoint"),
            "the key is missing",
            "add it, for example endpoint: unix:/run/grey/engine/etcd:0",
        )
        return
    local = plain["endpoint"].startswith("unix:")
    if local and "tls" in plain:
        yield document.fault((*_HERE, "tls"), "a unix socket has no TLS", "remove the key")
    if not local and "tls" not in plain:
        yield document.fault(
            (*_HERE, "tls"),
            "the key is missing: an engine reached over the network needs mutual TLS",
            "add cert_file, key_file and ca_file of the engine's own CA",
        )
    if "quota" in plain and units.size(plain["quota"]) < LEAST_QUOTA_BYTES:
        yield document.fault((*_HERE, "quota"), f"expected at least 64Mi, found {plain['quota']}", "")
    if "member" in plain:
        yield from _member_faults(plain, plain["member"], document)


def _member_faults(plain: dict[str, Any], member: dict[str, Any], document: Document) -> Iterator[Fault]:
    here: KeyPath = (*_HERE, "member")
    socket = PurePosixPath(plain["endpoint"].removeprefix("unix:"))
    if plain["endpoint"].startswith("unix:") and str(socket.parent) != member["run_dir"]:
        yield document.fault(
            (*here, "run_dir"),
            f"the socket of node.store.endpoint must lie in run_dir, but lies in {socket.parent}",
            f"write run_dir: {socket.parent}, or endpoint: unix:{member['run_dir']}/{socket.name}",
        )
    peers = {name: values.endpoint(peer) for name, peer in member["members"].items()}
    own = values.endpoint(member["peer"])
    try:
        values.address(own.host)
    except BadValue:
        yield document.fault(
            (*here, "peer"),
            f"expected an IP address and a port, found the name {own.host}",
            "write the address of this host on which the other members reach it",
        )
    if peers.get(member["name"]) != own:
        found = f"it is {peers[member['name']]}" if member["name"] in peers else "it is not there"
        yield document.fault(
            (*here, "members"),
            f"expected this member, {member['name']}, with its peer {own}; {found}",
            f"write {member['name']}: {own}",
        )
    seen: dict[Endpoint, str] = {}
    for name, peer in peers.items():
        if peer in seen:
            yield document.fault(
                (*here, "members", name), f"{peer} is that of {seen[peer]}", "each member has its own"
            )
        seen.setdefault(peer, name)
