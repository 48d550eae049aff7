# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every data store engine offers: ordered keys with revisions, in the manner of etcd.

Keys and values are bytes, keys are ordered as bytes. Every committed transaction that writes gets the next
revision (1, 2, 3, ...). A range is ``[start, end)``; ``end=None`` means to the end of the key space.
Revisions belong to one store and never cross clusters; positions do (``grey.record``).

Reads are linearizable: they see every commit that was answered before they were asked. ``serializable=True``
lets an engine of several members answer from the member that is asked, which may be behind, and needs no
majority; an engine of one process makes no difference. Every call ends in bounded time, whatever the engine
does, except ``watch``, which waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

MAX_WRITES_PER_TRANSACTION = 1000
"""The most writes one transaction may hold, on every engine."""

MAX_COMPARES_PER_TRANSACTION = 1000
"""The most comparisons one transaction may hold, on every engine."""

MAX_TRANSACTION_BYTES = 8 * 1024 * 1024
"""The most bytes that the keys and values of one transaction may have, comparisons too, on every engine."""


class StoreError(Exception):
    """The engine cannot do what was asked; the message says what to do next."""


class CompareFailed(StoreError):
    """A transaction wrote nothing, since the comparison number ``index`` did not hold."""

    def __init__(self, index: int) -> None:
        super().__init__(f"comparison {index} of the transaction did not hold")
        self.index = index


class StoreInUse(StoreError):
    """Another process has the store open; the message says which."""


class Compacted(StoreError):
    """The revision asked for is no longer kept; ``oldest`` is the oldest that can be asked for."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"revision {asked} is compacted away, the oldest kept is {oldest}")
        self.asked = asked
        self.oldest = oldest


class DiskFull(StoreError):
    """There was no room to write; nothing was written, and writes work again when there is room."""


class QuotaExceeded(DiskFull):
    """The engine's own limit of space is reached (``store.quota``); nothing was written."""


class EngineUnreachable(StoreError):
    """The engine did not answer in time, or has no leader. A write was surely not carried out."""


class CommitUncertain(StoreError):
    """The engine did not say whether the transaction was committed."""


class StoreDamaged(StoreError):
    """The data is missing or corrupt. Nothing repairs this by itself: greyd stops and says what to do."""


class Compare(msgspec.Struct, frozen=True):
    """A condition of a transaction: ``key`` has exactly ``value``, or does not exist (None)."""

    key: bytes
    value: bytes | None


class Write(msgspec.Struct, frozen=True):
    """Set ``key`` to ``value``, or remove it (None). One transaction writes a key at most once."""

    key: bytes
    value: bytes | None


class Item(msgspec.Struct, frozen=True):
    """A key as it is stored. ``revision`` is that of the transaction that wrote it last."""

    key: bytes
    value: bytes
    revision: int


class Page(msgspec.Struct, frozen=True):
    """A part of a range in key order. ``more`` says whether keys of the range were left out at the end."""

    items: list[Item]
    revision: int
    more: bool


class Change(msgspec.Struct, frozen=True):
    """One write as the watch reports it; ``value`` is None when the key was removed."""

    key: bytes
    value: bytes | None
    revision: int


class StoreStatus(msgspec.Struct, frozen=True):
    """How the store is, as this node sees it.

    ``revision`` is the newest, ``compacted`` the newest that compaction dropped. ``bytes`` is the size on
    disk, ``used_bytes`` what of it holds data (None: not known apart), ``limit_bytes`` the quota.
    ``alarms`` are those that the engine has raised, in its own words. ``leader`` says whether the member
    beside this node leads (None: an engine without members), ``majority`` whether it follows a leader;
    ``members`` are all of the engine's, ``reachable`` those that this one is connected with and itself.
    """

    revision: int
    compacted: int
    bytes: int
    used_bytes: int | None = None
    limit_bytes: int | None = None
    alarms: tuple[str, ...] = ()
    leader: bool | None = None
    majority: bool = True
    members: int = 1
    reachable: int = 1


def check_transaction(compares: Sequence[Compare], writes: Sequence[Write]) -> None:
    """Raise ValueError for a transaction that no engine takes."""
    if not 1 <= len(writes) <= MAX_WRITES_PER_TRANSACTION:
        raise ValueError(f"a transaction holds 1 to {MAX_WRITES_PER_TRANSACTION} writes, not {len(writes)}")
    if len(compares) > MAX_COMPARES_PER_TRANSACTION:
        raise ValueError(
            f"a transaction holds at most {MAX_COMPARES_PER_TRANSACTION} comparisons, not {len(compares)}"
        )
    if len({write.key for write in writes}) != len(writes):
        raise ValueError("a transaction writes a key at most once")
    size = sum(len(compare.key) + len(compare.value or b"") for compare in compares)
    size += sum(len(write.key) + len(write.value or b"") for write in writes)
    if size > MAX_TRANSACTION_BYTES:
        raise ValueError(f"a transaction holds at most {MAX_TRANSACTION_BYTES} bytes, not {size}")


class Store(Protocol):
    """A data store. All methods may be called concurrently from one event loop."""

    async def commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        """Apply all writes at once if all comparisons hold, durably; return the new revision.

        Removing a key that does not exist changes nothing; a transaction that changes nothing returns the
        newest revision and is not reported by ``watch``.
        Raises CompareFailed, DiskFull and EngineUnreachable (nothing was written), CommitUncertain,
        StoreDamaged; ValueError for more than MAX_WRITES_PER_TRANSACTION writes or none, a key written twice,
        more than MAX_COMPARES_PER_TRANSACTION comparisons or MAX_TRANSACTION_BYTES.
        A caller that is cancelled does not know whether the commit happened.
        """
        ...

    async def get(
        self, key: bytes, *, revision: int | None = None, serializable: bool = False
    ) -> Item | None:
        """Return the key, now or as it was at ``revision``.

        Raises Compacted for a revision older than the compacted one, StoreError for one that is yet to come,
        EngineUnreachable.
        """
        ...

    async def get_many(self, keys: Sequence[bytes], *, serializable: bool = False) -> dict[bytes, Item]:
        """Return those of the keys that exist, all read at one revision. Raises EngineUnreachable."""
        ...

    async def range(
        self,
        start: bytes,
        end: bytes | None,
        *,
        limit: int,
        revision: int | None = None,
        serializable: bool = False,
    ) -> Page:
        """Return at most ``limit`` keys of the range in order, all as they are now, or were at ``revision``.

        ``Page.revision`` is the revision of the state that was read. An engine may return fewer than
        ``limit`` with ``more`` set, to bound the memory of one page.
        Raises Compacted for a revision older than the compacted one, StoreError for one that is yet to come,
        EngineUnreachable.
        """
        ...

    def watch(self, start: bytes, end: bytes | None, *, after: int) -> AsyncIterator[list[Change]]:
        """Report every change of the range in transactions newer than revision ``after``, in order.

        One list holds all of the range's changes of one transaction. Ends only when the iterator is closed,
        and goes on by itself when the engine went away and came back; raises Compacted when changes newer
        than the last one seen are no longer kept.
        """
        ...

    async def compact(self, revision: int) -> None:
        """Drop the history up to and including ``revision``; what was current then stays. Idempotent.

        From then on reads answer for ``revision`` and newer ones, ``watch`` goes on after it. Raises
        StoreError for a revision that is yet to come, DiskFull, EngineUnreachable (perhaps it happened).
        """
        ...

    async def status(self) -> StoreStatus:
        """Return the revisions, the size and how the engine is. Raises EngineUnreachable."""
        ...

    async def close(self) -> None:
        """Release the engine. Commits that were not answered have an unknown outcome."""
        ...
