# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``greyd snapshot new-epoch``: opens the restored data and the federation store, and begins the epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grey.daemon.data_engine import open_etcd
from grey.daemon.identity_file import StateRefused, require_file
from grey.daemon.init import open_sqlite
from grey.daemon.shared_engine import SharedData
from grey.data.history import History
from grey.federation.new_epoch import NewEpochRefused, begin_epoch
from grey.federation.registry import DataReplaced, Registry
from grey.federation.role import Timing

if TYPE_CHECKING:
    from grey.config.model import Federation
    from grey.config.node import NodeFile
    from grey.data.identity import Identity
    from grey.federation.new_epoch import Begun
    from grey.store.interface import Store


async def begin(config: NodeFile, federation: Federation) -> Begun:
    """Begin a new epoch. Raises StateRefused, StoreError, FederationStoreError, DamagedRecord, DataError."""
    if config.federation_store is None:
        raise StateRefused(
            f"{config.name} does not reach the federation store (node.federation_store is absent), and a "
            "cluster that does not vote is no primary: nothing is to be done here"
        )
    store, identity = await _open(config, federation)
    try:
        return await _begin(config, federation, store, identity)
    except (NewEpochRefused, DataReplaced) as error:
        raise StateRefused(str(error)) from error
    finally:
        await store.close()


async def _open(config: NodeFile, federation: Federation) -> tuple[Store, Identity]:
    """Open the data as greyd would; an embedded store only while greyd does not run."""
    if config.store.engine != "etcd":
        return await open_sqlite(config, federation)
    known = require_file(config)
    store = await open_etcd(config, federation)
    try:
        await SharedData(config, federation, store).confirm(known)
    except BaseException:
        await store.close()
        raise
    return store, known


async def _begin(config: NodeFile, federation: Federation, store: Store, identity: Identity) -> Begun:
    # Imported here, as everywhere: gRPC is slow to load.
    from grey.federation.etcd_store import EtcdFederationStore

    assert config.federation_store is not None
    timing = Timing.of(federation.failover.detection_time_seconds)
    access = config.federation_store
    shared = EtcdFederationStore(
        federation.name, access.endpoints, access.tls, timeout_seconds=timing.store_timeout
    )
    try:
        await Registry(shared).register(config.cluster, config.name, identity.data_id)
        return await begin_epoch(
            shared, History(store), cluster=config.cluster, node=config.name, timing=timing
        )
    finally:
        await shared.close()
