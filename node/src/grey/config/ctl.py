# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""grey-ctl's own file (``docs/reference/commands.md``): the federations and how to reach them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from grey.config import schema, yamlfile
from grey.config.model import TlsFiles
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
