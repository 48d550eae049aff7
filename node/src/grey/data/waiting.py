# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests that wait for the writer, and how they are put together into one engine transaction."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from grey.data import keyspace
from grey.data.requests import digest
from grey.store.interface import MAX_WRITES_PER_TRANSACTION

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from grey.data.requests import Operation, Written

GROUP_BYTES = 1024 * 1024
"""About what the keys and values of one transaction weigh; a larger request goes alone."""

MAX_OPERATIONS = MAX_WRITES_PER_TRANSACTION - 2
"""The most operations of one request: its id and the position are written with it."""

_POSITION_WRITES = 1
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
        self.data_keys = [keyspace.data_key(operation.key) for operation in operations]
        self.writes = len(operations) + (request_id is not None)
        self.bytes = sum(
            _ENVELOPE_BYTES + len(operation.key) + len(operation.value or b"") for operation in operations
        )

    def marks(self) -> set[bytes]:
        """Return the stored keys that no other request of the same transaction may touch."""
        marks = set(self.data_keys)
        if self.entry_key is not None:
            marks.add(self.entry_key)
        return marks


class WaitingQueue:
    """Requests in order of arrival."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def append(self, request: Request) -> None:
        """Add a request at the end."""
        self._waiting.append(request)

    def put_back(self, requests: Sequence[Request]) -> None:
        """Put requests back in front, in their order."""
        self._waiting.extendleft(reversed(requests))

    def drain(self) -> list[Request]:
        """Take everything."""
        drained = list(self._waiting)
        self._waiting.clear()
        return drained

    def take_group(self) -> list[Request]:
        """Take what goes into the next transaction; requests whose callers are gone are dropped.

        A key or request id occurs once in a group. What has to wait for that keeps its place, and so does
        everything later that touches the same keys, so that each key sees its requests in order.
        """
        group: list[Request] = []
        kept: list[Request] = []
        seen: set[bytes] = set()
        writes = _POSITION_WRITES
        size = 0
        while self._waiting:
            request = self._waiting[0]
            if request.outcome.done():
                self._waiting.popleft()
                continue
            if group and (
                writes + request.writes > MAX_WRITES_PER_TRANSACTION or size + request.bytes > GROUP_BYTES
            ):
                break
            self._waiting.popleft()
            marks = request.marks()
            if seen.isdisjoint(marks):
                group.append(request)
                writes += request.writes
                size += request.bytes
            else:
                kept.append(request)
            seen |= marks
        self.put_back(kept)
        return group
