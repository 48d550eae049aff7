# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns what the other rooms raise into the errors of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grey.data.errors import OutcomeUnknown, Overloaded, RequestIdReused, WriterStopped
from grey.data.fence import DeadlinePassed, NotPrimary
from grey.federation.interface import FederationStoreError
from grey.federation.records import DamagedRecord
from grey.serve import errors
from grey.serve.errors import ApiError, Primary
from grey.store.interface import CommitUncertain, DiskFull, StoreDamaged

if TYPE_CHECKING:
    from grey.serve.view import NodeView


class Translator:
    """What each known exception means to the client (``grey.serve.door.Translate``)."""

    def __init__(self, view: NodeView) -> None:
        self._view = view

    def __call__(self, error: Exception) -> ApiError | None:
        """Return the error to answer with; None for a fault of the node."""
        match error:
            case NotPrimary():
                return errors.not_primary(self._view.cluster, self._primary(error.primary))
            case DeadlinePassed():
                return errors.fenced(self._view.cluster)
            case OutcomeUnknown() | CommitUncertain():
                return errors.outcome_unknown(str(error))
            case RequestIdReused():
                return errors.request_id_reused(str(error))
            case Overloaded():
                return errors.overloaded(str(error))
            case DiskFull():
                return errors.disk_full(str(error))
            case WriterStopped():
                return errors.unavailable(str(error))
            case StoreDamaged():
                return errors.unavailable(str(error), "read from another cluster; see the log of this node")
            case FederationStoreError() | DamagedRecord():
                return errors.unavailable(str(error), "see grey-ctl federation status at another cluster")
            case _:
                return None

    def _primary(self, name: str | None) -> Primary | None:
        cluster = None if name is None else self._view.federation.cluster(name)
        return None if cluster is None else Primary(cluster.name, str(cluster.endpoint))
