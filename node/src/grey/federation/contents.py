# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a federation store holds, read record by record: to describe a snapshot, and to check one."""

from __future__ import annotations

from typing import TYPE_CHECKING

# msgspec resolves annotations when the class is used, so nothing here may hide behind TYPE_CHECKING.
import msgspec

from grey.federation import records
from grey.federation.interface import RoleRecord

if TYPE_CHECKING:
    from collections.abc import Iterable


class FederationContents(msgspec.Struct, frozen=True):
    """The role record (None: nobody took the role yet) and the number of all records."""

    federation: str
    role: RoleRecord | None
    records: int


def examine_records(federation: str, items: Iterable[tuple[bytes, bytes]]) -> FederationContents:
    """Read every record of a federation, by its key below ``records.store_root``. Raises DamagedRecord."""
    role, count = None, 0
    for key, value in items:
        name = key.decode(errors="replace")
        count += 1
        if name == records.ROLE:
            role = records.decode_role(value)
        elif name.startswith(records.MEMBERS):
            records.decode_report(name, value)
        elif name.startswith(records.CLUSTERS):
            records.decode_cluster(name.removeprefix(records.CLUSTERS), value)
    return FederationContents(federation, role, count)
