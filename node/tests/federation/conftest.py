# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from support.etcd_cluster import EtcdCluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _running(folder: Path, size: int) -> Iterator[EtcdCluster]:
    if shutil.which("etcd") is None:
        pytest.fail("these tests need etcd in PATH (Debian: apt-get install etcd-server)")
    cluster = EtcdCluster(folder, size)
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def etcd1(tmp_path: Path) -> Iterator[EtcdCluster]:
    """One etcd process."""
    yield from _running(tmp_path / "etcd", 1)


@pytest.fixture
def etcd3(tmp_path: Path) -> Iterator[EtcdCluster]:
    """Three etcd processes of one cluster."""
    yield from _running(tmp_path / "etcd", 3)
