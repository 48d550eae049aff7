# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's file (``docs/reference/node-file.md``): what one host runs, and where everything is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from grey.config import engine, federation_store, schema, values, yamlfile
from grey.config.engine import DataStore
from grey.config.errors import ConfigError, Fault
from grey.config.federation_store import FederationStoreAccess
from grey.config.model import TlsFiles
from grey.config.yamlfile import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from grey.config.yamlfile import Document, KeyPath

SCHEMA = "node_schema.json"

_CLUSTER_KEYS = ("cluster", "identity_file", "data_dir", "store", "listen", "tls")


class Listen(msgspec.Struct, frozen=True):
    """The node's own address and its three ports."""

    address: str
    api: int
    control: int
    metrics: int


class NodeFile(msgspec.Struct, frozen=True):
    """A whole node's file. ``names`` maps host names in small letters to addresses; paths are absolute.

    ``federation_store`` is None on a node that reaches the store through the control plane only.
    """

    mode: Literal["cluster"]
    name: str
    cluster: str
    federation_file: str
    identity_file: str
    data_dir: str
    store: DataStore
    listen: Listen
    tls: TlsFiles
    names: dict[str, tuple[str, ...]]
    federation_store: FederationStoreAccess | None


class WitnessFile(msgspec.Struct, frozen=True):
    """The file of a host that only votes in the federation store; ``federation_store`` has its member."""

    mode: Literal["witness"]
    name: str
    federation_file: str
    names: dict[str, tuple[str, ...]]
    federation_store: FederationStoreAccess


def load(path: str | Path) -> NodeFile:
    """Read a node's file and check all of it. Raises ConfigError with everything that is wrong."""
    found, document = _read(path)
    if isinstance(found, WitnessFile):
        message = "expected cluster here, found witness: such a host has neither data nor a greyd"
        hint = "greyd federation-store is all that runs there"
        raise ConfigError([document.fault(("node", "mode"), message, hint)])
    return found


def load_either(path: str | Path) -> NodeFile | WitnessFile:
    """Read the file of a node or of a witness. Raises ConfigError with everything that is wrong."""
    return _read(path)[0]


def _read(path: str | Path) -> tuple[NodeFile | WitnessFile, Document]:
    document = yamlfile.load(path)
    schema.check(document, SCHEMA)
    plain = schema.filled(document.data, SCHEMA)["node"]
    read = _witness if plain["mode"] == "witness" else _node
    return read(plain, document), document


def _witness(plain: dict[str, Any], document: Document) -> WitnessFile:
    access = plain["federation_store"]
    here: KeyPath = ("node", "federation_store")
    faults = [
        document.fault(("node", key), "a witness has no such key", "remove it, or write mode: cluster")
        for key in _CLUSTER_KEYS
        if key in plain
    ]
    faults += [*federation_store.faults(access, document), *_doubled_paths(plain, document)]
    if "member" not in access:
        faults.append(document.fault((*here, "member"), "the key is missing", "add it: it is what runs here"))
    if faults:
        raise ConfigError(faults)
    return WitnessFile(
        mode=plain["mode"],
        name=plain["name"],
        federation_file=plain["federation_file"],
        names=read_names(plain["names"]),
        federation_store=federation_store.read(access),
    )


def _node(plain: dict[str, Any], document: Document) -> NodeFile:
    access = plain.get("federation_store")
    faults = [
        *engine.faults(plain["store"], document),
        *(federation_store.faults(access, document) if access is not None else ()),
        *_doubled_ports(plain, document),
        *_doubled_paths(plain, document),
    ]
    if faults:
        raise ConfigError(faults)
    return NodeFile(
        mode=plain["mode"],
        name=plain["name"],
        cluster=plain["cluster"],
        federation_file=plain["federation_file"],
        identity_file=plain["identity_file"],
        data_dir=plain["data_dir"],
        store=engine.read(plain["store"]),
        listen=Listen(**plain["listen"]),
        tls=TlsFiles(**plain["tls"]),
        names=read_names(plain["names"]),
        federation_store=None if access is None else federation_store.read(access),
    )


def read_names(plain: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    """Return a checked map of names in the form that resolvers take."""
    return {values.host(name): tuple(map(values.address, addresses)) for name, addresses in plain.items()}


def _doubled_ports(plain: dict[str, Any], document: Document) -> Iterator[Fault]:
    seen: dict[int, str] = {}
    for key in ("api", "control", "metrics"):
        port = plain["listen"][key]
        if port in seen:
            hint = "give each its own port"
            yield document.fault(("node", "listen", key), f"port {port} is that of {seen[port]}", hint)
        seen.setdefault(port, key)


def _doubled_paths(plain: dict[str, Any], document: Document) -> Iterator[Fault]:
    """The identity and the markers outlive the data on purpose, so they are not kept inside of it."""
    pairs: list[tuple[KeyPath, str, str, str]] = []
    folders: list[tuple[str, str]] = []
    if data_dir := plain.get("data_dir"):
        pairs.append((("node", "identity_file"), plain["identity_file"], "data_dir", data_dir))
        folders.append(("node.data_dir", data_dir))
    for section in ("store", "federation_store"):
        member = plain.get(section, {}).get("member")
        if member:
            here = ("node", section, "member")
            pairs += [
                ((*here, key), member[key], "data_dir", member["data_dir"])
                for key in ("marker_file", "bootstrap_file")
            ]
            pairs += [((*here, "data_dir"), f"{member['data_dir']}/", *folder) for folder in folders]
            folders.append((dotted((*here, "data_dir")), member["data_dir"]))
    for path, inner, name, outer in pairs:
        if inner.startswith(f"{outer}/"):
            yield document.fault(
                path, f"expected a path outside of {name}, which is {outer}", "keep them apart"
            )
