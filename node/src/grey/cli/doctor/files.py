# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's file, the federation file, the identity and the folders."""

from __future__ import annotations

import json
import os
import pwd
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from grey.cli.doctor.findings import Area, Finding
from grey.config import node as node_file
from grey.config import support
from grey.config.errors import ConfigError
from grey.config.model import Federation
from grey.config.node import NodeFile, WitnessFile

if TYPE_CHECKING:
    from collections.abc import Iterator


AREA = Area("files")

_OWNERSHIP = "deploy.yml sets owner and mode; or chown it by hand to the user that runs greyd"


class Files(msgspec.Struct, frozen=True):
    """What could be read; None is what could not, and a finding says why."""

    node: NodeFile | WitnessFile | None
    federation: Federation | None
    findings: tuple[Finding, ...]


def look(path: Path) -> Files:
    """Read the node's file and all that it names."""
    if not _present(path):
        step = "name it with --node-file; deploy.yml writes it on the hosts of the federation"
        return Files(None, None, (AREA.problem("node file", f"{path} does not exist", step),))
    try:
        node = node_file.load_either(path)
    except ConfigError as error:
        return Files(None, None, tuple(_faults("node file", error)))
    place = f"of {node.cluster}" if isinstance(node, node_file.NodeFile) else "is a witness"
    findings = [AREA.ok("node file", f"{path}: {node.name} {place}")]
    federation = None
    try:
        federation = support.load(node.federation_file)
    except ConfigError as error:
        findings += _faults("federation file", error)
    else:
        findings.append(_of_federation(node, federation))
    if isinstance(node, node_file.NodeFile):
        findings += _identity(node)
        if node.store.engine == "sqlite":
            findings += _folder(node)
    return Files(node, federation, tuple(findings))


def _of_federation(node: NodeFile | WitnessFile, federation: Federation) -> Finding:
    if isinstance(node, node_file.NodeFile) and federation.cluster(node.cluster) is None:
        known = ", ".join(cluster.name for cluster in federation.clusters)
        found = f"{node.federation_file} has no cluster {node.cluster}, only {known}"
        return AREA.problem("federation file", found, "correct node.cluster, or run deploy.yml for this host")
    return AREA.ok(
        "federation file", f"{node.federation_file}: {federation.name}, {len(federation.clusters)} clusters"
    )


def _identity(node: NodeFile) -> Iterator[Finding]:
    path = Path(node.identity_file)
    try:
        found = json.loads(path.read_bytes())
        yield AREA.ok("identity", f"{path}: the data here is {found['data_id']}")
    except FileNotFoundError:
        yield AREA.warning("identity", f"{path} does not exist: this node has no data yet", "run greyd init")
    except OSError as error:
        yield AREA.unreadable("identity", path, error)
    except (ValueError, TypeError, KeyError):
        step = "restore it from a backup; if the data is intact, delete it and run greyd init"
        yield AREA.problem("identity", f"{path} does not hold an identity", step)


def _folder(node: NodeFile) -> Iterator[Finding]:
    path = Path(node.data_dir)
    try:
        found = path.stat()
    except OSError as error:
        yield AREA.unreadable("data folder", path, error)
        return
    owner = _user(found.st_uid)
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        yield AREA.problem("data folder", f"{path} is no folder", "correct data_dir in the node's file")
        return
    if mode & 0o027:
        step = f"chmod 700 {path}"
        yield AREA.warning("data folder", f"{path} is open to others (mode {mode:04o})", step)
    others = sorted({_user(each) for each in _owners(path)} - {owner})
    if others:
        said = f"{path} is of {owner}, but files in it are of {', '.join(others)}"
        yield AREA.problem("data folder", said, _OWNERSHIP)
    else:
        yield AREA.ok("data folder", f"{path} is of {owner}, mode {mode:04o}")


def _owners(folder: Path) -> Iterator[int]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.stat(follow_symlinks=False).st_uid
    except OSError:
        return  # what cannot be listed, or is gone meanwhile, belongs to nobody else that matters here


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _present(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return True


def _faults(check: str, error: ConfigError) -> Iterator[Finding]:
    for fault in error.faults:
        place = f"{fault.file}:{fault.line}" if fault.line else fault.file
        found = ": ".join(part for part in (place, fault.key, fault.message) if part)
        yield AREA.problem(check, found, fault.hint or "correct it, then run this again")
