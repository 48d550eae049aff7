# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus metrics of the node, in a registry of its own."""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from grey import __version__
from grey.link import etcd_alarm
from grey.store.interface import StoreStatus

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CLIENT_OPERATIONS = frozenset({"get", "put", "delete", "list", "batch"})
_ROLES = ("primary", "replica")


class Figures(msgspec.Struct, frozen=True):
    """The state of the node at one moment; None where a figure does not apply or is unknown."""

    role: str
    epoch: int | None
    sequence: int | None
    lag_seconds: float | None
    lag_records: int | None
    leader: bool
    engine_up: bool
    store: StoreStatus | None
    role_deadline_seconds: float | None
    federation_store_up: bool | None
    certificate_expiry_seconds: float | None
    needs_full_copy: Mapping[str, bool] = {}


class _Operations(Collector):
    """Counts and times of operations in plain numbers: the library's own take a lock for each of them."""

    def __init__(self) -> None:
        self._results: dict[tuple[str, str], int] = {}
        self._times: dict[str, tuple[list[int], list[float]]] = {}

    def observe(self, operation: str, result: str, seconds: float) -> None:
        """Note that an operation ended."""
        which = (operation, result)
        self._results[which] = self._results.get(which, 0) + 1
        times = self._times.get(operation)
        if times is None:
            times = self._times[operation] = ([0] * (len(_BUCKETS) + 1), [0.0])
        times[0][bisect_left(_BUCKETS, seconds)] += 1
        times[1][0] += seconds

    def collect(self) -> Iterable[Metric]:
        """Return the numbers as the library wants them."""
        results = CounterMetricFamily(
            "grey_operations",
            "Operations of all interfaces by result (ok, or the error's code).",
            labels=("operation", "result"),
        )
        for which, count in self._results.items():
            results.add_metric(which, count)
        times = HistogramMetricFamily(
            "grey_operation_seconds",
            "Time from the request's headers to its answer.",
            labels=("operation",),
        )
        bounds = [*(str(bound) for bound in _BUCKETS), "+Inf"]
        for operation, (counts, (total,)) in self._times.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            times.add_metric((operation,), buckets, sum_value=total)
        return (results, times)


class NodeMetrics:
    """Counts operations as they end, and takes the figures when somebody asks."""

    def __init__(self, cluster: str) -> None:
        # A second series per counter that says when it was made doubles a scrape and tells nobody anything.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.operations_done = 0
        """Reads and writes of the key-value API that ended, whatever their result."""
        self._operations = _Operations()
        self.registry.register(self._operations)
        self._lag_seconds = self._gauge(
            "grey_replication_lag_seconds", "How old the data of this cluster is at most.", ("cluster",)
        )
        self._lag_records = self._gauge(
            "grey_replication_lag_records", "Records of the primary not applied here.", ("cluster",)
        )
        self._full_copy = self._gauge(
            "grey_replication_needs_full_copy",
            "1 for a cluster that lacks more than the primary still keeps, and cannot be promoted.",
            ("cluster",),
        )
        self._cluster = cluster
        self._role = self._gauge("grey_role", "1 for the role that this cluster has now.", ("role",))
        build = self._gauge("grey_build_info", "Always 1.", ("version", "python"))
        build.labels(__version__, platform.python_version()).set(1)
        self._plain = {
            "epoch": self._gauge("grey_epoch", "The epoch of the newest role record seen."),
            "sequence": self._gauge("grey_position_sequence", "Sequence of the newest record held here."),
            "leader": self._gauge("grey_leader", "1 on the node that leads its cluster."),
            "engine_up": self._gauge("grey_engine_up", "1 when the engine of the data answered last time."),
            "role_deadline_seconds": self._gauge(
                "grey_role_deadline_seconds", "Time left to this node to write; 0 when it may not."
            ),
            "federation_store_up": self._gauge(
                "grey_federation_store_up", "1 when the federation store answered last time."
            ),
            "certificate_expiry_seconds": self._gauge(
                "grey_certificate_expiry_seconds", "Time until the node's certificate expires."
            ),
        }

        self._store = {
            "bytes": self._gauge("grey_store_bytes", "Size of the data store on disk."),
            "used_bytes": self._gauge("grey_store_used_bytes", "What of it holds data."),
            "limit_bytes": self._gauge("grey_store_limit_bytes", "The engine's limit of its size."),
            "members": self._gauge("grey_engine_members", "Members that the engine has."),
            "reachable": self._gauge("grey_engine_members_reachable", "Members that answer, this one too."),
            "majority": self._gauge("grey_engine_majority", "1 when the member here follows a leader."),
        }
        self._alarms = self._gauge(
            "grey_engine_alarm", "1 while the engine has raised this alarm: it takes no writes.", ("alarm",)
        )

    def _gauge(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        return Gauge(name, text, tuple(labels), registry=self.registry)

    def observe(self, operation: str, result: str, seconds: float) -> None:
        """Note that an operation ended."""
        if operation in _CLIENT_OPERATIONS:
            self.operations_done += 1
        self._operations.observe(operation, result, seconds)

    def text(self, figures: Figures) -> bytes:
        """Return the Prometheus text with these figures."""
        for role in _ROLES:
            self._role.labels(role).set(1 if figures.role == role else 0)
        for gauge, value in (
            (self._lag_seconds, figures.lag_seconds),
            (self._lag_records, figures.lag_records),
        ):
            if value is None:
                gauge.clear()
            else:
                gauge.labels(self._cluster).set(value)
        for name, plain in self._plain.items():
            found = getattr(figures, name)
            plain.set(float("nan") if found is None else float(found))
        for name, of_store in self._store.items():
            found = None if figures.store is None else getattr(figures.store, name)
            of_store.set(float("nan") if found is None else float(found))
        self._full_copy.clear()
        for cluster, needs in figures.needs_full_copy.items():
            self._full_copy.labels(cluster).set(1 if needs else 0)
        self._alarms.clear()
        if figures.store is not None:
            for alarm in (*etcd_alarm.KNOWN, *figures.store.alarms):
                self._alarms.labels(alarm).set(1 if alarm in figures.store.alarms else 0)
        return generate_latest(self.registry)
