# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of the interfaces, as docs/reference/api.md lists them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from grey.record import Position


class Primary(msgspec.Struct, frozen=True):
    """Where the primary's key-value API answers."""

    cluster: str
    endpoint: str


class CannotListen(Exception):
    """An address or port cannot be used; the message says which and what to do."""


class ApiError(Exception):
    """An error to answer with. ``hint`` is the next step; ``details`` are more fields of the error object."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        hint: str,
        *,
        headers: dict[str, str] | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.headers = headers or {}
        self.details = details

    def body(self) -> bytes:
        """Return the JSON form."""
        return msgspec.json.encode(
            {"error": {"code": self.code, "message": self.message, "hint": self.hint, **self.details}}
        )


_DOCS = "see docs/reference/api.md"


def bad_request(message: str, hint: str = _DOCS) -> ApiError:
    """The request itself is wrong."""
    return ApiError(400, "bad_request", message, hint)


def no_route(method: str, path: str) -> ApiError:
    """Nothing answers on this path."""
    return ApiError(404, "no_such_path", f"nothing answers {method} {path}", _DOCS)


def method_not_allowed(method: str, path: str, allowed: str) -> ApiError:
    """The path exists, for other methods."""
    error = bad_request(f"{path} takes {allowed}, not {method}")
    error.status, error.headers = 405, {"Allow": allowed}
    return error


def key_not_found(key: str, headers: dict[str, str] | None = None) -> ApiError:
    """The key was never written, or it was deleted. ``headers`` say who answers, and how late it is."""
    return ApiError(
        404,
        "not_found",
        f"the key {key} does not exist",
        "check the key, or list by its prefix",
        headers=headers,
    )


def unknown_encoding(found: str) -> ApiError:
    """The body is encoded in a way that nobody here reads."""
    error = bad_request(f"Content-Encoding must be gzip or identity, found {found[:100]!r}")
    error.status, error.headers = 415, {"Accept-Encoding": "gzip, identity"}
    return error


def condition_failed(key: str, found: Position | None) -> ApiError:
    """A condition of a write did not hold; ``found`` is where the key is, None: it does not exist."""
    state = "does not exist" if found is None else f"is at position {found}"
    return ApiError(
        412,
        "condition_failed",
        f"the key {key} {state}, which is not what the request demands: nothing was written",
        "read the key again, and decide anew",
        key=key,
        position=None if found is None else str(found),
    )


def list_compacted(token: str) -> ApiError:
    """The snapshot that the pages of a walk belong to is gone."""
    return ApiError(
        410,
        "compacted",
        "the state that the earlier pages showed is no longer kept",
        "go on with the newest state by passing next as after, or begin anew",
        next=token,
    )


def watch_compacted(after: Position) -> ApiError:
    """What changed since the position asked for is no longer kept."""
    return ApiError(
        410,
        "compacted",
        f"the changes after position {after} are no longer all kept here",
        "list the keys anew, then watch from the position of that list",
    )


def diverged(message: str) -> ApiError:
    """A position of a history that was given up: the client saw what a failover lost."""
    return ApiError(409, "diverged", message, "list the keys anew, then watch from the position of that list")


def yet_to_come(message: str, primary: Primary | None, lag_seconds: float | None) -> ApiError:
    """The client knows of a newer state than this cluster has."""
    where = "" if primary is None else f", or ask {primary.endpoint}"
    return ApiError(
        503,
        "too_stale",
        message,
        f"retry in a moment{where}",
        headers={"Retry-After": "1"},
        primary=primary,
        lag_seconds=lag_seconds,
    )


def too_large(what: str, limit_bytes: int) -> ApiError:
    """A value or a body is over its limit."""
    return ApiError(
        413,
        "value_too_large",
        f"{what} is over the limit of {limit_bytes} bytes",
        "split the value over several keys, or store it elsewhere and keep a reference",
        limit_bytes=limit_bytes,
    )


def too_slow(what: str, seconds: float) -> ApiError:
    """A body did not come in time."""
    error = bad_request(f"{what} did not arrive within {seconds:g} s", "send it again, in one go")
    error.status = 408
    return error


def not_primary(cluster: str, primary: Primary | None) -> ApiError:
    """Writes and strong reads are served by the primary only."""
    if primary is None:
        message = f"{cluster} is not the primary, and no primary is known here"
        hint = "retry in a moment; see grey-ctl federation status"
    else:
        message = f"{cluster} is a replica, the primary is {primary.cluster}"
        hint = f"send this request to {primary.endpoint}"
    return ApiError(421, "not_primary", message, hint, primary=primary)


def fenced(cluster: str) -> ApiError:
    """The deadline of the role has passed."""
    return ApiError(
        503,
        "fenced",
        f"{cluster} holds the primary role but could not confirm it in time: nothing was written",
        "retry in a moment; if it lasts, the federation store has no majority: "
        "see grey-ctl federation status",
    )


def too_stale(cluster: str, wanted: float, lag_seconds: float | None, primary: Primary | None) -> ApiError:
    """A bounded read cannot be served here."""
    found = "of unknown age" if lag_seconds is None else f"up to {lag_seconds:.3f} s old"
    where = "the primary" if primary is None else primary.endpoint
    return ApiError(
        503,
        "too_stale",
        f"the data at {cluster} is {found}, the read allows {wanted:g} s",
        f"send this read to {where}, or allow a larger max_staleness",
        primary=primary,
        lag_seconds=lag_seconds,
    )


def unavailable(message: str, hint: str = "retry in a moment, or read from another cluster") -> ApiError:
    """The node cannot serve now."""
    return ApiError(503, "unavailable", message, hint)


def overloaded(message: str) -> ApiError:
    """Too many requests are waiting."""
    return ApiError(
        503,
        "overloaded",
        message,
        "retry after the time in Retry-After, and send fewer requests at once",
        headers={"Retry-After": "1"},
    )


def rate_limited(client: str, per_second: int, wait_seconds: float) -> ApiError:
    """One client asks more often than it may."""
    return ApiError(
        429,
        "rate_limited",
        f"{client} sends more than {per_second} requests per second",
        "retry after the time in Retry-After; the limit is api.limits.requests_per_second",
        headers={"Retry-After": str(max(1, math.ceil(wait_seconds)))},
    )


def outcome_unknown(message: str) -> ApiError:
    """A write that may or may not have happened."""
    return ApiError(
        504,
        "outcome_unknown",
        message,
        "retry with the same Grey-Request-Id: it is then carried out at most once",
    )


def request_id_reused(message: str) -> ApiError:
    """One request id for two different requests."""
    return ApiError(422, "request_id_reused", message, "use a new Grey-Request-Id for each new request")


def disk_full(
    message: str, hint: str = "free space on the volume of data_dir: writes work again by themselves then"
) -> ApiError:
    """No room to write."""
    return ApiError(507, "disk_full", message, hint)


def forbidden(
    message: str,
    hint: str = "add the name to security.cluster_auth.allowed_clusters, or use the operator's certificate",
) -> ApiError:
    """The certificate is the federation's, but its name is not admitted."""
    return ApiError(403, "forbidden", message, hint)


def not_for_others(message: str) -> ApiError:
    """Only a cluster's own certificate may ask this; neither a longer list nor the operator's would help."""
    return forbidden(message, "use the certificate of a node of that cluster")


def internal(incident: str) -> ApiError:
    """A fault of the node."""
    return ApiError(
        500,
        "internal",
        "the node failed to answer this request",
        f"look for {incident} in the node's log and report it",
        incident=incident,
    )
