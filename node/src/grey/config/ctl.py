# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""grey-ctl's own file (``docs/reference/commands.md``): the federations and how to reach them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from grey.config import federation as federation_file
from grey.config import schema, yamlfile
from grey.config.errors import ConfigError, Fault
from grey.config.model import Federation, TlsFiles
from grey.config.node import read_names

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = "ctl_schema.json"


class CtlFederation(msgspec.Struct, frozen=True):
    """A federation and the operator's certificate for it; ``names`` maps host names to addresses."""

    federation_file: str
    tls: TlsFiles
    names: dict[str, tuple[str, ...]]


class CtlFile(msgspec.Struct, frozen=True):
    """The federations that commands can name."""

    federations: dict[str, CtlFederation]


class Access(msgspec.Struct, frozen=True):
    """A federation as its file describes it, the operator's certificate, and the name map."""

    federation: Federation
    tls: TlsFiles
    names: dict[str, tuple[str, ...]]


def load(path: str | Path) -> CtlFile:
    """Read grey-ctl's file and check all of it. Raises ConfigError with everything that is wrong."""
    document = yamlfile.load(path)
    schema.check(document, SCHEMA)
    plain = schema.filled(document.data, SCHEMA)["federations"]
    return CtlFile(
        {
            name: CtlFederation(
                entry["federation_file"], TlsFiles(**entry["tls"]), read_names(entry["names"])
            )
            for name, entry in plain.items()
        }
    )


def access(path: str | Path, name: str | None = None) -> Access:
    """Return all that is needed to reach a federation of grey-ctl's file.

    ``name`` may be None when the file has exactly one. Raises ConfigError.
    """
    known = load(path).federations
    chosen = _choose(known, name, path)
    entry = known[chosen]
    federation = federation_file.load(entry.federation_file)
    if federation.name != chosen:
        raise _wrong(
            path,
            f"the entry {chosen} points at {entry.federation_file}, which is of {federation.name}",
            "name the entry like the federation",
        )
    return Access(federation, entry.tls, entry.names)


def _choose(known: dict[str, CtlFederation], name: str | None, path: str | Path) -> str:
    names = ", ".join(known) or "none"
    if name is None and len(known) != 1:
        hint = "choose one by its name, with --federation"
        raise _wrong(path, f"it names these federations: {names}", hint)
    chosen = next(iter(known)) if name is None else name
    if chosen not in known:
        raise _wrong(path, f"it has no federation {chosen}, it names: {names}", "check the federation's name")
    return chosen


def _wrong(path: str | Path, message: str, hint: str) -> ConfigError:
    return ConfigError([Fault(str(path), 0, "", message, hint)])
