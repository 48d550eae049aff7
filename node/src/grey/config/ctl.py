# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""grey-ctl's own file (``docs/reference/commands.md``): the federations and how to reach them.

A context is one way to reach a federation: its file, a certificate, a name map. Every entry of
``federations`` is a context of the federation's name; ``contexts`` holds more of them under any name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from grey.config import federation as federation_file
from grey.config import schema, yamlfile
from grey.config.errors import ConfigError, Fault
from grey.config.model import Federation, TlsFiles
from grey.config.node import read_names

if TYPE_CHECKING:
    from pathlib import Path

    from grey.config.yamlfile import Document

SCHEMA = "ctl_schema.json"

_ADD = "add one with grey-ctl context add"


class CtlFederation(msgspec.Struct, frozen=True):
    """A federation and the operator's certificate for it; ``names`` maps host names to addresses."""

    federation_file: str
    tls: TlsFiles
    names: dict[str, tuple[str, ...]]


class CtlFile(msgspec.Struct, frozen=True):
    """The federations and the contexts that commands can name; ``current`` is the context in use, if any."""

    federations: dict[str, CtlFederation]
    contexts: dict[str, CtlFederation] = {}
    current: str | None = None

    @property
    def known(self) -> dict[str, CtlFederation]:
        """All contexts by name, those of ``federations`` first."""
        return {**self.federations, **self.contexts}


class Access(msgspec.Struct, frozen=True):
    """A federation as its file describes it, the operator's certificate, and the name map."""

    federation: Federation
    tls: TlsFiles
    names: dict[str, tuple[str, ...]]
    context: str = ""


def load(path: str | Path) -> CtlFile:
    """Read grey-ctl's file and check all of it. Raises ConfigError with everything that is wrong."""
    return read(yamlfile.load(path))


def read(document: Document) -> CtlFile:
    """Check a file that was parsed. Raises ConfigError with everything that is wrong."""
    schema.check(document, SCHEMA)
    plain = schema.filled(document.data, SCHEMA)
    both = plain["contexts"].keys() & plain["federations"].keys()
    faults = [
        document.fault(("contexts", name), "there is a federation of this name", "give the context another")
        for name in sorted(both)
    ]
    current = plain.get("current")
    if current is not None and current not in {**plain["federations"], **plain["contexts"]}:
        names = ", ".join([*plain["federations"], *plain["contexts"]]) or "none"
        message = f"there is no context {current}, the file names: {names}"
        faults.append(document.fault(("current",), message, "write one of these, or remove the line"))
    if faults:
        raise ConfigError(faults)
    return CtlFile(_entries(plain["federations"]), _entries(plain["contexts"]), current)


def access(path: str | Path, name: str | None = None, *, context: str | None = None) -> Access:
    """Return all that is needed to reach a federation of grey-ctl's file. Raises ConfigError.

    ``context`` names a context. Else ``name`` names a federation: the current context when it is of that
    federation, else its entry, else the one context of it. Both may be None when the file says which
    (``current``) or has exactly one context.
    """
    return choose(load(path), path, name, context=context)


def choose(
    known: CtlFile, path: str | Path, name: str | None = None, *, context: str | None = None
) -> Access:
    """Like ``access``, for a file that was read."""
    if context is not None:
        found = _open(known, path, context)
        if name is not None and found.federation.name != name:
            message = f"the context {context} is of the federation {found.federation.name}, not of {name}"
            raise _wrong(path, message, "leave one of --context and --federation out")
        return found
    if name is None:
        return _open(known, path, _only(known, path))
    if known.current is not None and known.current != name:
        found = _open(known, path, known.current)
        if found.federation.name == name:
            return found
    if name in known.federations:
        return _open(known, path, name)
    return _open(known, path, _of_federation(known, path, name))


def _open(known: CtlFile, path: str | Path, context: str) -> Access:
    entry = known.known.get(context)
    if entry is None:
        names = ", ".join(known.known) or "none"
        raise _wrong(path, f"it has no context {context}, it names: {names}", "see grey-ctl context list")
    federation = federation_file.load(entry.federation_file)
    if context in known.federations and federation.name != context:
        raise _wrong(
            path,
            f"the entry {context} points at {entry.federation_file}, which is of {federation.name}",
            "name the entry like the federation",
        )
    return Access(federation, entry.tls, entry.names, context)


def _only(known: CtlFile, path: str | Path) -> str:
    if known.current is not None:
        return known.current
    if len(known.known) == 1:
        return next(iter(known.known))
    if not known.known:
        raise _wrong(path, "it names no federation", _ADD)
    if not known.contexts:
        message = f"it names these federations: {', '.join(known.federations)}"
        raise _wrong(path, message, "choose one by its name, with --federation")
    message = f"it names these contexts: {', '.join(known.known)}"
    raise _wrong(path, message, "choose one with --context, or for good with grey-ctl context use")


def _of_federation(known: CtlFile, path: str | Path, name: str) -> str:
    """Return the one context of a federation that has no entry of its own name."""
    found = []
    for context, entry in known.contexts.items():
        try:
            federation = federation_file.load(entry.federation_file)
        except ConfigError:
            # A context that is not meant may be broken: its federation cannot be the one that was named.
            continue
        if federation.name == name:
            found.append(context)
    if len(found) == 1:
        return found[0]
    if found:
        message = f"these contexts are of the federation {name}: {', '.join(found)}"
        raise _wrong(path, message, "choose one with --context")
    names = ", ".join(known.known) or "none"
    message = f"it has no federation {name}, it names: {names}"
    raise _wrong(path, message, "check the federation's name")


def _entries(plain: dict[str, Any]) -> dict[str, CtlFederation]:
    return {
        name: CtlFederation(entry["federation_file"], TlsFiles(**entry["tls"]), read_names(entry["names"]))
        for name, entry in plain.items()
    }


def _wrong(path: str | Path, message: str, hint: str) -> ConfigError:
    return ConfigError([Fault(str(path), 0, "", message, hint)])
