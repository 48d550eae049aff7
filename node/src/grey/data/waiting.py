# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests that wait for the writer, and how they are put together into one engine transaction."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from grey.data import keyspace
from grey.data.requests import digest
from grey.store.interface import MAX_WRITES_PER_TRANSACTION

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Sequence

    from grey.data.requests import Operation, Written

GROUP_BYTES = 1024 * 1024
"""About what the keys and values of one transaction weigh; a larger request goes alone."""

MAX_OPERATIONS = MAX_WRITES_PER_TRANSACTION - 3
"""The most operations of one request: its id, the position and the turn are written with it."""

_OTHER_WRITES = 2
_ENVELOPE_BYTES = 256


class Request:
    """A write that waits: its operations stay together, and ``outcome`` is where its caller waits."""

    def __init__(
        self,
        operations: Sequence[Operation],
        request_id: str | None,
        outcome: asyncio.Future[list[Written]],
        *,
        batch: bool,
    ) -> None:
        """Raises UnicodeEncodeError when the id is not ASCII."""
        self.operations = operations
        self.request_id = request_id
        self.outcome = outcome
        self.batch = batch
        self.digest = b"" if request_id is None else digest(operations, batch=batch)
        self.entry_key = None if request_id is None else keyspace.request_key(request_id)
        first = operations[0]
        self.is_single_delete = not batch and first.value is None
        if len(operations) == 1:  # nearly all: what follows costs a tenth so
            self.data_keys = [keyspace.DATA + first.key]
            depends = self.is_single_delete or first.condition is not None
            self.depends_on = self.data_keys if depends else []
            self.writes = 1 if first.ttl_seconds is None else 2
            self.bytes = _ENVELOPE_BYTES + len(first.key) + len(first.value or b"")
        else:
            self.data_keys = [keyspace.data_key(each.key) for each in operations]
            self.depends_on = [keyspace.data_key(e.key) for e in operations if e.condition is not None]
            self.writes = len(operations) + sum(each.ttl_seconds is not None for each in operations)
            sizes = (_ENVELOPE_BYTES + len(each.key) + len(each.value or b"") for each in operations)
            self.bytes = sum(sizes)
        # The stored keys that no other request of the same transaction may touch.
        self.marks = self.data_keys
        if self.entry_key is not None:
            self.marks = [*self.data_keys, self.entry_key]
            self.writes += 1
        self.number = 0
        self.blocked = 0


class WaitingQueue:
    """Requests in order of arrival; of those that touch one key or one request id, one at a time is taken.

    A request that was taken holds its keys until ``finish``. So however many wait for one key, taking a group
    costs what the group costs.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._ready: list[tuple[int, Request]] = []
        self._holders: dict[bytes, Request] = {}
        self._behind: dict[bytes, deque[Request]] = {}
        self._arrived = 0
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def append(self, request: Request) -> None:
        """Add a request at the end."""
        self._arrived += 1
        self._waiting += 1
        request.number = self._arrived
        for mark in request.marks:
            if mark in self._holders:
                self._behind.setdefault(mark, deque()).append(request)
                request.blocked += 1
            else:
                self._holders[mark] = request
        if not request.blocked:
            heappush(self._ready, (request.number, request))

    def take_group(self) -> list[Request]:
        """Take what goes into the next transaction; requests whose callers are gone are dropped.

        A key or request id occurs once in a group, and each sees its requests in order of arrival.
        """
        group: list[Request] = []
        writes = _OTHER_WRITES
        size = 0
        while self._ready:
            request = self._ready[0][1]
            gone = request.outcome.done()
            full = writes + request.writes > MAX_WRITES_PER_TRANSACTION or size + request.bytes > GROUP_BYTES
            if group and full and not gone:
                break
            heappop(self._ready)
            self._waiting -= 1
            if gone:
                self._release(request)
                continue
            group.append(request)
            writes += request.writes
            size += request.bytes
        return group

    def finish(self, group: Iterable[Request]) -> None:
        """Let go of what a group holds; those of it that are not answered yet go back to their place."""
        for request in group:
            if request.outcome.done():
                self._release(request)
            else:
                self._waiting += 1
                heappush(self._ready, (request.number, request))

    def drain(self) -> list[Request]:
        """Take everything that waits."""
        waiting = dict(self._ready)
        waiting.update((request.number, request) for queue in self._behind.values() for request in queue)
        self._clear()
        return [waiting[number] for number in sorted(waiting)]

    def _release(self, request: Request) -> None:
        for mark in request.marks:
            behind = self._behind.get(mark)
            if behind is None:
                del self._holders[mark]
                continue
            follower = behind.popleft()
            if not behind:
                del self._behind[mark]
            self._holders[mark] = follower
            follower.blocked -= 1
            if not follower.blocked:
                heappush(self._ready, (follower.number, follower))
