# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a call can raise: one exception per error code of the API, and two for having no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from grey.client.keys import from_text
from grey.record.position import Position

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Attempt(msgspec.Struct, frozen=True):
    """One request of a call: whom it went to and what came of it, in words."""

    cluster: str
    endpoint: str
    outcome: str

    def __str__(self) -> str:
        return f"{self.cluster} ({self.endpoint}): {self.outcome}"


class Primary(msgspec.Struct, frozen=True):
    """Who the primary is, as a cluster that is not says it."""

    cluster: str
    endpoint: str


class GreyError(Exception):
    """A call that failed. ``hint`` is the next step, ``cluster`` who said so (None: nobody answered).

    ``attempts`` holds the newest requests of the call, oldest first; ``detail`` is the API's error object.
    """

    code: ClassVar[str] = "error"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        cluster: str | None = None,
        attempts: Sequence[Attempt] = (),
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.cluster = cluster
        self.attempts = tuple(attempts)
        self.detail: Mapping[str, Any] = detail or {}

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


def _position_of(text: object) -> Position | None:
    try:
        return Position.parse(text) if isinstance(text, str) else None
    except ValueError:
        return None


class BadRequest(GreyError):
    """A key, parameter or body is wrong; nothing was done."""

    code = "bad_request"


class Forbidden(GreyError):
    """The certificate of this client may not do that."""

    code = "forbidden"


class ValueTooLarge(GreyError):
    """The value, or the values of a batch together, exceed ``limit_bytes``; nothing was written."""

    code = "value_too_large"

    @property
    def limit_bytes(self) -> int | None:
        """The limit, None when the answer does not name it."""
        limit = self.detail.get("limit_bytes")
        return limit if isinstance(limit, int) else None


class _NamesPrimary(GreyError):
    @property
    def primary(self) -> Primary | None:
        """Who the primary is, None when nobody is known to be."""
        try:
            return msgspec.convert(self.detail.get("primary"), Primary | None)
        except msgspec.ValidationError:
            return None


class NotPrimary(_NamesPrimary):
    """No cluster that was asked is the primary; nothing was written."""

    code = "not_primary"


class TooStale(_NamesPrimary):
    """No cluster could serve a bounded read that is fresh enough."""

    code = "too_stale"


class ConditionFailed(GreyError):
    """A conditional write found the key otherwise; nothing was written, in a batch nothing of it."""

    code = "condition_failed"

    @property
    def position(self) -> Position | None:
        """Where the key is; None when it does not exist."""
        return _position_of(self.detail.get("position"))

    @property
    def key(self) -> bytes | None:
        """The key of a batch whose condition failed; None when the answer does not name it."""
        try:
            return from_text(str(self.detail["key"]))
        except (KeyError, ValueError):
            return None


class Compacted(GreyError):
    """What was asked for is older than the history that is kept.

    A watch has missed changes: list anew, then watch from the listing's position. A listing has lost its
    snapshot: ``page(after=error.next)`` goes on with the newest state.
    """

    code = "compacted"

    @property
    def next(self) -> str | None:
        """The ``after`` with which a listing goes on with the newest state; None for a watch."""
        token = self.detail.get("next")
        return token if isinstance(token, str) else None


class Diverged(GreyError):
    """The position is not in the history of this federation any more: a failover lost what came before it.

    List anew, then watch from the listing's position.
    """

    code = "diverged"


class RateLimited(GreyError):
    """This client asks more often than the federation's file allows; nothing was done."""

    code = "rate_limited"


class RequestIdReused(GreyError):
    """The request id was used before for another request; nothing was done."""

    code = "request_id_reused"


class Fenced(GreyError):
    """The primary cannot confirm that it still is; nothing was written."""

    code = "fenced"


class Overloaded(GreyError):
    """Too many requests are waiting; nothing was written."""

    code = "overloaded"


class DiskFull(GreyError):
    """There is no room to write; nothing was written."""

    code = "disk_full"


class NodeFault(GreyError):
    """A fault of the node; its log has the same ``incident``."""

    code = "internal"

    @property
    def incident(self) -> str | None:
        """What to look for in the node's log."""
        incident = self.detail.get("incident")
        return incident if isinstance(incident, str) else None


class Unavailable(GreyError):
    """Nobody could serve the call in time; if it was a write, it was not carried out."""

    code = "unavailable"


class BadAnswer(GreyError):
    """Something answered that does not speak this API; the message says what was wanted and found."""

    code = "bad_answer"


class OutcomeUnknown(GreyError):
    """The write may or may not have happened. Repeat it with ``request_id``: it is not carried out twice."""

    code = "outcome_unknown"

    def __init__(self, message: str, *, request_id: str, attempts: Sequence[Attempt] = ()) -> None:
        super().__init__(
            message,
            hint=f"repeat it within ten minutes with the request id {request_id}, or read the key",
            attempts=attempts,
        )
        self.request_id = request_id


BY_CODE: Mapping[str, type[GreyError]] = {
    kind.code: kind
    for kind in (
        BadRequest,
        Forbidden,
        ValueTooLarge,
        NotPrimary,
        TooStale,
        ConditionFailed,
        Compacted,
        Diverged,
        RateLimited,
        RequestIdReused,
        Fenced,
        Overloaded,
        DiskFull,
        NodeFault,
        Unavailable,
    )
}
"""The exception of each error code. ``not_found`` and ``outcome_unknown`` have none: the call decides."""
