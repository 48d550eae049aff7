# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section ``node.store`` of the node's file: the engine under the cluster's data."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from grey.config import etcd_member, units
from grey.config.etcd_member import EtcdMember
from grey.config.model import TlsFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grey.config.errors import Fault
    from grey.config.yamlfile import Document, KeyPath

DEFAULT_QUOTA_BYTES = 2 * 1024**3

_HERE: KeyPath = ("node", "store")
_OF_ETCD = ("endpoint", "tls", "quota", "member")


class EngineMember(EtcdMember, frozen=True, kw_only=True):
    """The member of the cluster's engine that runs beside greyd, started in ``run_dir``."""

    run_dir: str


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
        member=EngineMember(**etcd_member.read(plain["member"])) if "member" in plain else None,
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
    yield from etcd_member.quota_faults(plain, _HERE, document)
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
    yield from etcd_member.faults(member, here, document)
