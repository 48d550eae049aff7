# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client library: ``Client`` and ``AsyncClient`` for the key-value API of a federation."""

from grey.client.aio import AsyncClient, Options
from grey.client.consistency import Consistency
from grey.client.errors import (
    Attempt,
    BadAnswer,
    BadRequest,
    Compacted,
    ConditionFailed,
    DiskFull,
    Diverged,
    Fenced,
    Forbidden,
    GreyError,
    NodeFault,
    NotPrimary,
    OutcomeUnknown,
    Overloaded,
    Primary,
    RateLimited,
    RequestIdReused,
    TooStale,
    Unavailable,
    ValueTooLarge,
)
from grey.client.model import (
    BatchResult,
    ClusterEndpoint,
    Delete,
    Deleted,
    Event,
    Item,
    Page,
    Put,
    Value,
    Written,
)
from grey.client.read import Get
from grey.client.sync import Client, SyncWatch
from grey.client.watch import Watch

__all__ = [
    "AsyncClient",
    "Attempt",
    "BadAnswer",
    "BadRequest",
    "BatchResult",
    "Client",
    "ClusterEndpoint",
    "Compacted",
    "ConditionFailed",
    "Consistency",
    "Delete",
    "Deleted",
    "DiskFull",
    "Diverged",
    "Event",
    "Fenced",
    "Forbidden",
    "Get",
    "GreyError",
    "Item",
    "NodeFault",
    "NotPrimary",
    "Options",
    "OutcomeUnknown",
    "Overloaded",
    "Page",
    "Primary",
    "Put",
    "RateLimited",
    "RequestIdReused",
    "SyncWatch",
    "TooStale",
    "Unavailable",
    "Value",
    "ValueTooLarge",
    "Watch",
    "Written",
]
