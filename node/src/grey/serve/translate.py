# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns what the other rooms raise into the errors of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grey.data.errors import (
    ConditionFailed,
    Copied,
    Diverged,
    NotYetHere,
    OutcomeUnknown,
    Overloaded,
    RequestIdReused,
    WriterStopped,
)
from grey.data.fence import DeadlinePassed, NotPrimary
from grey.federation.interface import FederationStoreError
from grey.federation.records import DamagedRecord
from grey.link import etcd_alarm
from grey.serve import errors
from grey.serve.errors import ApiError, Primary
from grey.serve.http import key_text
from grey.store.interface import (
    CommitUncertain,
    Compacted,
    DiskFull,
    EngineUnreachable,
    QuotaExceeded,
    StoreDamaged,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from grey.serve.view import NodeView


def _quota_exceeded(message: str) -> ApiError:
    return errors.disk_full(message, etcd_alarm.next_step(etcd_alarm.SPACE))


def _damaged(message: str) -> ApiError:
    return errors.unavailable(message, "read from another cluster; see the log of this node")


def _compacted(message: str) -> ApiError:
    return errors.unavailable(f"compacted while it was read: {message}", "try again")


def _federation_store(message: str) -> ApiError:
    return errors.unavailable(message, "see grey-ctl federation status at another cluster")


# The first that fits counts: what is more special stands first.
_BY_MESSAGE: tuple[tuple[type[Exception], Callable[[str], ApiError]], ...] = (
    (OutcomeUnknown, errors.outcome_unknown),
    (CommitUncertain, errors.outcome_unknown),
    (Overloaded, errors.overloaded),
    (RequestIdReused, errors.request_id_reused),
    (QuotaExceeded, _quota_exceeded),
    (DiskFull, errors.disk_full),
    (WriterStopped, errors.unavailable),
    (EngineUnreachable, errors.unavailable),
    (Copied, errors.unavailable),
    (Compacted, _compacted),
    (Diverged, errors.diverged),
    (StoreDamaged, _damaged),
    (FederationStoreError, _federation_store),
    (DamagedRecord, _federation_store),
)


class Translator:
    """What each known exception means to the client (``grey.serve.door.Translate``)."""

    def __init__(self, view: NodeView) -> None:
        self._view = view

    def __call__(self, error: Exception) -> ApiError | None:
        """Return the error to answer with; None for a fault of the node."""
        view = self._view
        match error:
            case NotPrimary():
                return errors.not_primary(view.cluster, self._primary(error.primary))
            case DeadlinePassed():
                return errors.fenced(view.cluster)
            case ConditionFailed():
                return errors.condition_failed(key_text(error.key), error.found)
            case NotYetHere():
                return errors.yet_to_come(str(error), view.primary(), view.lag_seconds())
        make = next((make for kind, make in _BY_MESSAGE if isinstance(error, kind)), None)
        return None if make is None else make(str(error))

    def _primary(self, name: str | None) -> Primary | None:
        cluster = None if name is None else self._view.federation.cluster(name)
        return None if cluster is None else Primary(cluster.name, str(cluster.endpoint))
