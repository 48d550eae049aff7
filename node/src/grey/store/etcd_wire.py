# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How keys, revisions and transactions of the data store are written in etcd's messages.

etcd knows no empty key, so every key gets one byte before it. An empty etcd has revision 1, an empty store 0;
since greyd alone writes to its engine, the numbers differ by one for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grey.link.etcd import rpc
from grey.store.interface import Change, CompareFailed, Item

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from grey.store.interface import Compare, Write

ROOT = b"/"
_ROOT_END = b"0"
_EVERYTHING = b"\0"


def to_etcd(revision: int) -> int:
    """Return etcd's number for a revision of the store."""
    return revision + 1


def from_etcd(revision: int) -> int:
    """Return the store's number for a revision of etcd."""
    return revision - 1


def transaction(compares: Sequence[Compare], writes: Sequence[Write]) -> Any:
    """Return the transaction; when a comparison does not hold it answers what the keys are instead."""
    return rpc.TxnRequest(
        compare=[_comparison(compare) for compare in compares],
        success=[_operation(write) for write in writes],
        failure=[
            rpc.RequestOp(request_range=rpc.RangeRequest(key=ROOT + compare.key)) for compare in compares
        ],
    )


def committed(answer: Any, compares: Sequence[Compare]) -> int:
    """Return the revision after a transaction; raises CompareFailed when it wrote nothing."""
    if not answer.succeeded:
        for index, (compare, found) in enumerate(zip(compares, answer.responses, strict=True)):
            kvs = found.response_range.kvs
            if (kvs[0].value if kvs else None) != compare.value:
                raise CompareFailed(index)
        raise AssertionError("etcd refused a transaction whose comparisons all held")
    return from_etcd(answer.header.revision)


def reads(keys: Iterable[bytes], revision: int | None, *, serializable: bool) -> Any:
    """Return a transaction that reads keys, all in one state."""
    return rpc.TxnRequest(
        success=[rpc.RequestOp(request_range=one(key, revision, serializable=serializable)) for key in keys]
    )


def one(key: bytes, revision: int | None, *, serializable: bool) -> Any:
    """Return the question for one key."""
    return rpc.RangeRequest(key=ROOT + key, revision=_at(revision), serializable=serializable)


def some(start: bytes, end: bytes | None, revision: int | None, *, limit: int, serializable: bool) -> Any:
    """Return the question for a range."""
    return rpc.RangeRequest(
        key=ROOT + start,
        range_end=_ROOT_END if end is None else ROOT + end,
        revision=_at(revision),
        limit=limit,
        serializable=serializable,
    )


def presence(revision: int) -> Any:
    """Return the cheapest question that a revision can still answer; the member answers from what it has."""
    return rpc.RangeRequest(key=ROOT, revision=to_etcd(revision), keys_only=True, serializable=True)


def items(kvs: Iterable[Any]) -> list[Item]:
    """Return the keys of an answer."""
    return [Item(kv.key[len(ROOT) :], kv.value, from_etcd(kv.mod_revision)) for kv in kvs]


def watch_everything(after: int) -> Any:
    """Ask for all changes after a revision of the store.

    It begins with the changes of ``after`` itself, which the caller drops: etcd then refuses exactly when
    something newer than ``after`` is compacted away, where it would else leave out the removals of the next.
    """
    create = rpc.WatchCreateRequest(
        key=_EVERYTHING,
        range_end=_EVERYTHING,
        start_revision=to_etcd(after),
        fragment=True,
    )
    return rpc.WatchRequest(create_request=create)


def change(event: Any) -> Change | None:
    """Return one change of a watch; None for a key that is not the store's."""
    kv = event.kv
    if not kv.key.startswith(ROOT):
        return None
    removed = event.type == event.DELETE
    return Change(kv.key[len(ROOT) :], None if removed else kv.value, from_etcd(kv.mod_revision))


def _at(revision: int | None) -> int:
    return 0 if revision is None else to_etcd(revision)


def _comparison(compare: Compare) -> Any:
    key = ROOT + compare.key
    if compare.value is None:
        return rpc.Compare(key=key, target=rpc.Compare.CREATE, result=rpc.Compare.EQUAL, create_revision=0)
    return rpc.Compare(key=key, target=rpc.Compare.VALUE, result=rpc.Compare.EQUAL, value=compare.value)


def _operation(write: Write) -> Any:
    key = ROOT + write.key
    if write.value is None:
        return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=write.value))
