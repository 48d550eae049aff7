# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a valid federation file may ask for and this version cannot carry out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grey.config import federation as federation_file
from grey.config import yamlfile
from grey.config.errors import ConfigError, Fault
from grey.config.yamlfile import Document

if TYPE_CHECKING:
    from pathlib import Path

    from grey.config.model import Federation


def load(path: str | Path) -> Federation:
    """Read a federation file that this version can carry out. Raises ConfigError with all that is wrong."""
    document = yamlfile.load(path)
    federation = federation_file.read(document)
    faults = unsupported(federation, document)
    if faults:
        raise ConfigError(faults)
    return federation


def unsupported(federation: Federation, document: Document | None = None) -> list[Fault]:
    """Return what must be refused before anything is deployed or served; with ``document``, with its lines.

    Conflicts cannot arise in active-passive, so its conflict resolution is accepted whatever it says.
    """
    document = document or Document("", {}, {(): 0})
    faults = []
    if federation.topology != "active-passive":
        message = f"topology {federation.topology} is not available in this version"
        faults.append(document.fault(("federation", "topology"), message, "use active-passive"))
    if federation.replication.mode != "async":
        top = ("replication", "mode")
        path = top if document.has(*top) else ("federation", *top)
        message = f"mode {federation.replication.mode} is not available in this version"
        faults.append(document.fault(path, message, "use async"))
    return faults
