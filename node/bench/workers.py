# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One greyd or two on one engine and the same processors, under the same number of connections.

Two that share a port (SO_REUSEPORT) would be two nodes of one cluster behind one address: two nodes with an
address each are measured here, with the connections spread evenly, which the kernel does by chance only.
"""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from _cluster import Shared, one_cluster
from _load import over
from _report import Section, latency_table
from _turns import Contender, calm, in_turns
from engines import REQUESTS

if TYPE_CHECKING:
    from _turns import Pace

CLIENTS = 64


async def measure(pace: Pace) -> Section:
    """Measure a cluster of one process, then in turns one and both of a cluster of two."""
    busy = await calm(pace.patience_seconds)
    cells = {}
    for greyds in (1, 2):
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="grey-bench-")))
            cluster = await stack.enter_async_context(one_cluster(folder, Shared(greyds, members=1)))
            await cluster.fill()
            for what, requests in REQUESTS.items():
                sides = []
                for used in range(1, greyds + 1):
                    connections = await cluster.connect(CLIENTS, nodes=used)
                    stack.callback(lambda opened=connections: [each.close() for each in opened])
                    name = f"{'one process' if used == 1 else 'two processes'} of {greyds} asked"
                    call = over(connections, requests)
                    sides.append(Contender(name, call, cluster.greyd(greyds), cluster.etcd()))
                cells.setdefault(what, []).append((CLIENTS, await in_turns(sides, CLIENTS, pace)))
    tables = [latency_table(f"{what}, one etcd", found) for what, found in cells.items()]
    return Section("workers", tables, busy)
