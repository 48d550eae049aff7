# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches every commit of every cluster and says when a replica is wrong, at the very moment.

It knows the one history of the federation from the commits of the writers, and of each cluster the state that
it must show at its cursor.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from grey.data import keyspace
from grey.data.conditions import Absent, At
from grey.data.requests import decode_entry
from grey.record import Position
from grey.record.envelope import Envelope, decode
from grey.record.position import ORIGIN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.memory_store import MemoryStore

    from grey.data.conditions import Condition
    from grey.store.interface import Write


WALL = 1_000_000.0
"""What all clocks show when a simulation begins, in seconds."""
MOST_AHEAD = 4.0
"""No clock is ever further ahead than so many seconds."""


class Violation(AssertionError):
    """A replica showed something that must never be."""


class _Expected:
    """What one cluster must hold at ``cursor``; ``valid`` is False in the middle of a full copy."""

    def __init__(self) -> None:
        self.cursor = ORIGIN
        self.epoch = 0
        self.valid = True
        self.missing: list[tuple[int, float]] = []
        self.data: dict[bytes, bytes] = {}
        self.requests: dict[bytes, bytes] = {}


class Oracle:
    """``author`` says who commits right now: ``writer``, ``follower`` or something else."""

    def __init__(self, wall: Callable[[], float]) -> None:
        """``wall`` is the right time, in seconds."""
        self.author = ""
        self.head = ORIGIN
        self.states_checked = 0
        self.expired = 0
        self.demands_met = 0
        self._wall = wall
        self._demands: dict[bytes, Condition] = {}
        self._newest: dict[bytes, Envelope] = {}
        self._records: list[tuple[Envelope, bytes]] = []
        self._requests: list[dict[bytes, bytes]] = []
        self._boundaries = {ORIGIN}
        self._tombstones: set[bytes] = set()
        self._acknowledged: list[tuple[int, float]] = []
        self._stores: dict[str, MemoryStore] = {}
        self._expected: dict[str, _Expected] = {}

    def adopt(self, cluster: str, store: MemoryStore) -> None:
        """Watch the empty store of a cluster from now on."""
        self._stores[cluster] = store
        self._expected[cluster] = expected = _Expected()
        expected.missing = list(self._acknowledged)
        store.committed = partial(self._committed, cluster)

    def cursor(self, cluster: str) -> Position:
        """Return how far the durable state of a cluster is."""
        return self._expected[cluster].cursor

    def consistent(self, cluster: str) -> bool:
        """Whether a cluster holds a state that the primary once had."""
        return self._stores[cluster].value(keyspace.COPYING) is None

    def acknowledge(self, position: Position, now: float) -> None:
        """Note that a client was told that its write is done."""
        self._acknowledged.append((position.sequence, now))
        for expected in self._expected.values():
            if position > expected.cursor:
                expected.missing.append((position.sequence, now))

    def true_staleness(self, cluster: str, now: float) -> float:
        """Return since when some acknowledged write is missing at a cluster, in seconds; 0 when none is."""
        return max((now - moment for _, moment in self._expected[cluster].missing), default=0.0)

    def demand(self, value: bytes, condition: Condition | None) -> None:
        """Note what the put of a value, which no other put has, demands of its key."""
        if condition is not None:
            self._demands[value] = condition

    def held(self, cluster: str, key: bytes) -> Envelope | None:
        """Return the version of a key that a cluster holds; None when that is a deletion, too."""
        stored = self._stores[cluster].value(keyspace.data_key(key))
        envelope = None if stored is None else decode(stored)
        return None if envelope is None or envelope.deleted else envelope

    def check_expired(self, moment: float) -> None:
        """Say when a key is still there somewhere whose time was over at a moment of the simulation."""
        limit = int((WALL + moment) * 1e6)
        for cluster, store in self._stores.items():
            for stored in store.items(keyspace.DATA, keyspace.DATA_END).values():
                envelope = decode(stored)
                if envelope.expires is not None and envelope.expires < limit:
                    raise Violation(f"{cluster} still holds {envelope}, whose time is over")

    def check_converged(self, primary: str) -> None:
        """Compare all clusters with the primary, key for key."""
        want = self._live(primary)
        for cluster, expected in self._expected.items():
            if expected.cursor != self.head:
                raise Violation(f"{cluster} stands at {expected.cursor}, the head is {self.head}")
            self._compare(cluster, "data", self._live(cluster), want)

    def _committed(self, cluster: str, _revision: int, writes: Sequence[Write]) -> None:
        written = {write.key: write.value for write in writes}
        if self.author == "writer":
            self._extend(cluster, written)
        self._check_index(cluster, written)
        expected = self._expected[cluster]
        epoch = int(self._stores[cluster].value(keyspace.EPOCH) or b"0")
        if epoch < expected.epoch:
            raise Violation(f"the epoch of {cluster} went back from {expected.epoch} to {epoch}")
        expected.epoch = epoch
        self._check_state(cluster, expected)

    def _extend(self, cluster: str, written: dict[bytes, bytes | None]) -> None:
        """Append what a primary's writer committed to the history."""
        data = [
            value for key, value in written.items() if key.startswith(keyspace.DATA) and value is not None
        ]
        records = sorted(((decode(value), value) for value in data), key=lambda record: record[0].position)
        for envelope, value in records:
            position = envelope.position
            if position.sequence != self.head.sequence + 1 or position.epoch < self.head.epoch:
                raise Violation(f"{cluster} wrote record {position} after {self.head}: the history forked")
            self.head = position
            self._judge(cluster, envelope)
            self._records.append((envelope, value))
            self._requests.append({})
            if envelope.deleted:
                self._tombstones.add(value)
        if records:
            entries = {
                key: value
                for key, value in written.items()
                if key.startswith(keyspace.REQUEST) and value is not None and decode_entry(value).count
            }
            self._requests[-1] = entries
            self._boundaries.add(self.head)

    def _judge(self, cluster: str, envelope: Envelope) -> None:
        """Say when a record should not have been written over the version before it."""
        before = self._newest.get(envelope.key)
        self._newest[envelope.key] = envelope
        before = None if before is None or before.deleted else before
        over = before is not None and before.expires is not None
        over = over and before.expires <= (self._wall() + MOST_AHEAD) * 1e6
        if envelope.deleted and envelope.key.startswith(b"ttl:"):
            self.expired += 1
            if not over:
                raise Violation(f"{cluster} deleted {before} before its time")
        demand = None if envelope.value is None else self._demands.get(envelope.value)
        if demand is None:
            return
        self.demands_met += 1
        if isinstance(demand, At) and (before is None or before.position != demand.position):
            raise Violation(f"{cluster} wrote {envelope} over {before}, not over {demand}")
        if isinstance(demand, Absent) and before is not None and not over:
            raise Violation(f"{cluster} wrote {envelope} over {before}, which was to be absent")

    def _check_index(self, cluster: str, written: dict[bytes, bytes | None]) -> None:
        """Say when a record with a time to live is stored without its entry: a promotion needs it."""
        for key, value in written.items():
            if not key.startswith(keyspace.DATA) or value is None:
                continue
            envelope = decode(value)
            if envelope.expires is None:
                continue
            entries = [keyspace.due_key(other) for other in written if other.startswith(keyspace.EXPIRY)]
            if not any(of == envelope.key and due <= envelope.expires for due, of in entries):
                raise Violation(f"{cluster} stored {envelope} without an entry in the index of expiries")

    def _check_state(self, cluster: str, expected: _Expected) -> None:
        store = self._stores[cluster]
        stored = store.value(keyspace.POSITION)
        cursor = ORIGIN if stored is None else Position.parse(stored.decode())
        if cursor < expected.cursor:
            raise Violation(f"the cursor of {cluster} went back from {expected.cursor} to {cursor}")
        if cursor not in self._boundaries:
            raise Violation(f"{cluster} stands at {cursor}, in the middle of a transaction of the primary")
        for place in range(expected.cursor.sequence, cursor.sequence):
            envelope, value = self._records[place]
            if envelope.deleted:
                expected.data.pop(keyspace.data_key(envelope.key), None)
            else:
                expected.data[keyspace.data_key(envelope.key)] = value
            expected.requests.update(self._requests[place])
        if cursor != expected.cursor:
            expected.missing = [entry for entry in expected.missing if entry[0] > cursor.sequence]
            expected.cursor = cursor
        if self.consistent(cluster):
            self.states_checked += 1
            self._compare(cluster, "data", self._live(cluster), expected.data)
            # The ids of deletes that found nothing stay where they were asked: no record tells of them.
            entries = store.items(keyspace.REQUEST, keyspace.REQUEST_END).items()
            requests = {key: entry for key, entry in entries if decode_entry(entry).count}
            self._compare(cluster, "request ids", requests, expected.requests)

    def _live(self, cluster: str) -> dict[bytes, bytes]:
        """Return what users see of a cluster: tombstones and missing keys are the same."""
        items = self._stores[cluster].items(keyspace.DATA, keyspace.DATA_END)
        return {key: value for key, value in items.items() if value not in self._tombstones}

    def _compare(self, cluster: str, what: str, found: dict[bytes, bytes], want: dict[bytes, bytes]) -> None:
        if found == want:
            return
        wrong = sorted(key for key in found.keys() | want.keys() if found.get(key) != want.get(key))
        raise Violation(f"the {what} of {cluster} at {self._expected[cluster].cursor} differ: {wrong}")
