# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity file: whose data this host holds. It outlives the data, so that lost data is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from grey.data.identity import Identity, describe
from grey.store.durable import replace_file

if TYPE_CHECKING:
    from grey.config.model import Federation
    from grey.config.node import NodeFile


class StateRefused(Exception):
    """What is on disk must not be served or changed; the message says why and the next step (exit code 3)."""


def read_file(config: NodeFile) -> Identity | None:
    """Read the identity file; None when there is none. Raises StateRefused when it cannot be read."""
    path = Path(config.identity_file)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Identity)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        raise StateRefused(
            f"{path} must hold the identity of this node's data, but cannot be read: {error}. "
            "Restore it from a backup; if the data is intact, delete this file and run greyd init"
        ) from error


def require_file(config: NodeFile) -> Identity:
    """Read the identity file; raises StateRefused also when there is none."""
    known = read_file(config)
    if known is None:
        raise StateRefused(
            f"{config.identity_file} does not exist: this node has no data yet. Make it with: greyd init"
        )
    return known


def write_file(config: NodeFile, identity: Identity) -> None:
    """Make the identity file durable. Raises OSError."""
    path = Path(config.identity_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, msgspec.json.encode(identity) + b"\n")


def require_own(config: NodeFile, federation: Federation, found: Identity, where: str) -> None:
    """Raise StateRefused when the data, or the file, that lies at ``where`` is of another node."""
    wanted = (federation.name, config.cluster, config.name)
    node = config.name if found.node is None else found.node
    if (found.federation, found.cluster, node) != wanted:
        raise StateRefused(
            f"{where} belongs to {describe(found)}, but this node is {'/'.join(wanted)}. "
            "Correct the node's file, or put the right data in place"
        )


def require_same(held: Identity | None, known: Identity, where: str, identity_file: str) -> None:
    """Raise StateRefused when a store holds other data than the identity file says, or nobody's."""
    shared = held is not None and held.node is None
    wanted = Identity(known.federation, known.cluster, None, known.data_id) if shared else known
    if held != wanted:
        found = "of nobody" if held is None else f"of {describe(held)}"
        raise StateRefused(
            f"{where} holds the data {found}, but {identity_file} says {describe(known)}: "
            "the data folder was replaced. Put the right data back"
        )
