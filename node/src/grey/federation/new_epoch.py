# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A primary whose data was restored from a snapshot begins a new epoch there (design, section 5).

1. The data must be marked as restored, and the role record must name this cluster: another primary is
   followed.
2. Nobody may renew the role. The record is watched until it stood still for ``detection_time``: whoever held
   it then has no valid deadline any more.
3. The record is swapped to a higher epoch, with a counter that says that the epoch is in use. So no other
   data of this cluster, should some of it still run somewhere, takes the new epoch for one that it was given.
4. The epoch is made durable in the data. Interrupted before that, nobody may write, and the next try takes
   the epoch after it.

Records that replicas hold beyond the snapshot are divergence: the primary has others of a higher epoch at
their positions, or none, and refuses to go on from them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from grey.federation import records
from grey.federation.clocks import boottime_seconds
from grey.federation.interface import RoleRecord
from grey.federation.role import Standstill

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from grey.federation.interface import FederationStore
    from grey.federation.keeper import LocalHistory
    from grey.federation.role import Timing
    from grey.record import Position


class NewEpochRefused(Exception):
    """No new epoch is begun; the message says why and what to do."""


class Begun(msgspec.Struct, frozen=True):
    """The epoch in which the restored primary may write, and where it forks from the older one."""

    changed: bool
    cluster: str
    epoch: int
    position: str


async def begin_epoch(
    store: FederationStore,
    history: LocalHistory,
    *,
    cluster: str,
    node: str,
    timing: Timing,
    boottime: Callable[[], float] = boottime_seconds,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Begun:
    """Begin a new epoch for the restored data of ``cluster``; the same again changes nothing.

    Takes a little more than ``detection_time``. Raises NewEpochRefused, FederationStoreError (whether the
    record was swapped is unknown: try again), DamagedRecord, StoreError, DataError.
    """
    restored = await history.restored()
    if restored is None:
        raise NewEpochRefused(
            f"the data of {cluster} was not restored with greyd snapshot restore: it goes on in its epoch, "
            "and nothing is to be done. To make another cluster the primary, promote it"
        )
    position = await history.position()
    local = max(await history.epoch() or 0, position.epoch)
    record, version = await _role(store, cluster)
    if max(local, restored) > record.epoch:
        raise NewEpochRefused(
            f"the data of {cluster} is of epoch {max(local, restored)}, but the role record in the "
            f"federation store says epoch {record.epoch}: the store is older than the data. Restore the "
            "newer federation store, or recover the quorum explicitly"
        )
    if local == record.epoch > restored:
        return _begun(cluster, local, position, changed=False)
    standstill: Standstill[RoleRecord] = Standstill(gap=timing.inherit_after)
    while True:
        sent_at = boottime()
        found, version = await _role(store, cluster)
        if found != record:
            raise NewEpochRefused(
                f"{found.node} of {cluster} renews the role in epoch {found.epoch}: data of this cluster "
                "that was not restored is still served. Stop greyd and the engine on every node of "
                f"{cluster}, restore them all, then try again"
            )
        if standstill.observe(found, sent_at=sent_at, received_at=boottime()) >= timing.detection:
            break
        await sleep(timing.renew_interval)
    epoch = record.epoch + 1
    wanted = RoleRecord(cluster, epoch, 1, node, position)
    if not await store.swap(records.ROLE, records.encode(wanted), expected=version):
        raise NewEpochRefused("the role record changed at this moment: look at the status, then try again")
    await history.claim(epoch)
    return _begun(cluster, epoch, position, changed=True)


def _begun(cluster: str, epoch: int, position: Position, *, changed: bool) -> Begun:
    return Begun(changed, cluster, epoch, str(position))


async def _role(store: FederationStore, cluster: str) -> tuple[RoleRecord, int]:
    stored = await store.get(records.ROLE)
    if stored is None:
        raise NewEpochRefused(
            "the federation store holds no role record: it was lost or is another one. Restore it from a "
            "backup, or check federation_store.endpoints in the node's file"
        )
    record = records.decode_role(stored.value)
    if record.cluster != cluster:
        raise NewEpochRefused(
            f"{record.cluster} is the primary of epoch {record.epoch}: {cluster} follows it, from where its "
            "data stands, and needs no epoch of its own. Nothing is to be done"
        )
    return record, stored.version
