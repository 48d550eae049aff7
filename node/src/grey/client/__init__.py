# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client library: ``Client`` and ``AsyncClient`` for the key-value API of a federation."""

from grey.client.aio import AsyncClient, Options
from grey.client.consistency import Consistency
from grey.client.errors import (
    Attempt,
    BadAnswer,
    BadRequest,
    DiskFull,
    Fenced,
    Forbidden,
    GreyError,
    NodeFault,
    NotPrimary,
    OutcomeUnknown,
    Overloaded,
    Primary,
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
    Item,
    Page,
    Put,
    Value,
    Written,
)
from grey.client.sync import Client

__all__ = [
    "AsyncClient",
    "Attempt",
    "BadAnswer",
    "BadRequest",
    "BatchResult",
    "Client",
    "ClusterEndpoint",
    "Consistency",
    "Delete",
    "Deleted",
    "DiskFull",
    "Fenced",
    "Forbidden",
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
    "RequestIdReused",
    "TooStale",
    "Unavailable",
    "Value",
    "ValueTooLarge",
    "Written",
]
