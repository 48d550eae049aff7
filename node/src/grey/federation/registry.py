# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose data each cluster holds, so that a data folder that was replaced is noticed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from grey.federation import records
from grey.federation.records import ClusterRecord

if TYPE_CHECKING:
    from grey.federation.interface import FederationStore

_log = logging.getLogger(__name__)


class DataReplaced(Exception):
    """A cluster came with other data than the federation knows of it; the message says what to do."""


class Registry:
    """The records ``clusters/NAME``, for clusters that vote. Methods raise FederationStoreError."""

    def __init__(self, store: FederationStore) -> None:
        self._store = store

    async def register(self, cluster: str, node: str, data_id: str) -> None:
        """Make the data known on the first start, and compare it on every later one.

        Raises DataReplaced when the federation knows other data of this cluster. Safe to repeat.
        """
        wanted = ClusterRecord(data_id, node)
        while True:
            stored = await self._store.get(records.cluster_key(cluster))
            known = None if stored is None else records.decode_cluster(cluster, stored.value)
            if known is not None and known.data_id == data_id:
                return
            if known is not None and known.data_id is not None:
                raise DataReplaced(
                    f"the data of {cluster} must be {known.data_id} (registered by {known.node}), "
                    f"but {node} holds {data_id}: the data folder was replaced. Put the old data back; "
                    "if it is lost for good, make the federation forget it (greyd forget-data) and start "
                    "again"
                )
            version = None if stored is None else stored.version
            key = records.cluster_key(cluster)
            if await self._store.swap(key, records.encode(wanted), expected=version):
                _log.info("registered data %s for %s", data_id, cluster)
                return

    async def forget(self, cluster: str) -> bool:
        """Forget which data a cluster holds, so that it may come with new data; say whether any was known."""
        while True:
            key = records.cluster_key(cluster)
            stored = await self._store.get(key)
            if stored is None:
                return False
            known = records.decode_cluster(cluster, stored.value)
            if known.data_id is None:
                return False
            forgotten = records.encode(ClusterRecord(None, known.node))
            if await self._store.swap(key, forgotten, expected=stored.version):
                return True
