# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot of the embedded store, taken while greyd uses it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from grey.store.sqlite_file import check_present, connect, named

if TYPE_CHECKING:
    from pathlib import Path


def back_up(source: Path, target: Path) -> None:
    """Copy a store as it is at one moment; greyd may write to it meanwhile.

    All pages are copied in one step: SQLite holds one state of the source for as long, and its writers wait
    for nothing. A copy in several steps would begin anew with each of their commits. Raises StoreError.
    """
    check_present(source)
    try:
        with closing(connect(source, cache_mib=8, readonly=True)) as live:
            try:
                with closing(sqlite3.connect(target, isolation_level=None)) as copy:
                    live.backup(copy)
            except sqlite3.Error as error:
                raise named(error, target, "write the snapshot") from error
    except sqlite3.Error as error:
        raise named(error, source, "read the store") from error
