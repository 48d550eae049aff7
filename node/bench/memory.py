# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What 100,000 keys cost greyd in memory: it was started again before each figure."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from _cluster import Shared, one_cluster
from _load import VALUE
from _report import Section, Table
from _turns import calm

if TYPE_CHECKING:
    from _turns import Pace

KEYS = 100_000
_ENGINES = {"SQLite": None, "one etcd": Shared(greyds=1, members=1)}


async def measure(pace: Pace) -> Section:
    """Measure greyd on either engine."""
    busy = await calm(pace.patience_seconds)
    rows = []
    for engine, shared in _ENGINES.items():
        with tempfile.TemporaryDirectory(prefix="grey-bench-") as name:
            async with one_cluster(Path(name), shared) as cluster:
                await cluster.restart()
                empty = await cluster.at_rest()
                await cluster.fill([f"key-{number:06}" for number in range(KEYS)])
                filled = await cluster.at_rest()
                await cluster.restart()
                full = await cluster.at_rest()
        more = full - empty
        each = more * 2**20 / KEYS
        rows.append(
            [engine, f"{empty:.0f}", f"{full:.0f}", f"{more:.0f}", f"{each:.0f} bytes", f"{filled:.0f}"]
        )
    columns = [
        "greyd's resident memory, MiB",
        "without keys",
        f"with {KEYS:,} keys",
        "difference",
        f"per key (value {len(VALUE)} bytes)",
        "right after writing them",
    ]
    return Section("memory", [Table(columns, rows)], busy)
