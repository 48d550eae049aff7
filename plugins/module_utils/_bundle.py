# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle: one tar with wheelhouses and etcd, so that a controller without a network can deploy.

``bundle.json`` comes first and names every other file with its SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils import _files
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1
_INDEX = "bundle.json"


@dataclass(frozen=True)
class Part:
    """A file of a bundle, and where it is now."""

    name: str
    source: Path


class Bundle:
    """A bundle that is there. Fails, saying what to do, when it lacks what is asked for."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._index = read_index(Path(path))

    def wheelhouse(self, release: str, target: object) -> bytes:
        """Return the wheelhouse of a release for a target."""
        if self._index["release"] != release:
            raise GreyError(
                f"{self.path}: wanted a bundle of release {release}, which this collection is, found one of "
                f"{self._index['release']}; {self._again()}"
            )
        return self._read("wheelhouses", str(target), "a wheelhouse for Python and architecture")

    def etcd(self, architecture: str) -> bytes:
        """Return the archive that holds etcd for an architecture (amd64 or arm64)."""
        return self._read("etcd", architecture, "etcd for the architecture")

    def _read(self, kind: str, key: str, what: str) -> bytes:
        entries = self._index[kind]
        if key not in entries:
            raise GreyError(
                f"{self.path}: wanted {what} {key}, found {', '.join(sorted(entries)) or 'none'}; "
                f"{self._again()}"
            )
        entry = entries[key]
        try:
            with tarfile.open(self.path, "r:") as archive:
                file = archive.extractfile(entry["file"])
                content = file.read() if file is not None else b""
        except (OSError, tarfile.TarError, KeyError) as error:
            raise GreyError(
                f"{self.path}: wanted {entry['file']} in it, found: {error}; {self._again()}"
            ) from error
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise GreyError(
                f"{self.path}: {entry['file']} is damaged (its SHA-256 differs); copy the bundle again"
            )
        return content

    def _again(self) -> str:
        return (
            "make one with this collection on a machine with a network: ansible-playbook "
            "grey.distributed.bundle "
            "-e grey_bundle=PATH"
        )


def read_index(path: Path) -> dict[str, Any]:
    """Return what a bundle says about itself."""
    try:
        with tarfile.open(path, "r:") as archive:
            first = archive.next()
            file = archive.extractfile(first) if first is not None and first.name == _INDEX else None
            index = json.loads(file.read()) if file is not None else None
    except FileNotFoundError as error:
        raise GreyError(
            f"{path}: wanted the bundle that grey_bundle names, found no file; copy it to the controller"
        ) from error
    except (OSError, tarfile.TarError, ValueError) as error:
        raise GreyError(f"{path}: wanted a bundle, found: {error}; copy it again") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise GreyError(f"{path}: wanted a bundle of format {FORMAT}, found another kind of file")
    return index


def index_of(version: str, release: str, parts: Mapping[str, Mapping[str, Part]]) -> dict[str, Any]:
    """Return what a bundle of these parts says about itself."""
    return {
        "format": FORMAT,
        "version": version,
        "release": release,
        **{
            kind: {key: {"file": part.name, "sha256": _summed(part.source)} for key, part in items.items()}
            for kind, items in parts.items()
        },
    }


def write(path: Path, index: Mapping[str, Any], parts: Mapping[str, Mapping[str, Part]]) -> None:
    """Write a bundle beside its place, then rename it: same parts, same bytes."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("xb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
                said = (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()
                archive.addfile(_entry(_INDEX, len(said)), io.BytesIO(said))
                for part in (part for items in parts.values() for part in items.values()):
                    with part.source.open("rb") as source:
                        archive.addfile(_entry(part.name, os.fstat(source.fileno()).st_size), source)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise _files.explain(error, path) from error
    finally:
        beside.unlink(missing_ok=True)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o644
    return entry


def _summed(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
