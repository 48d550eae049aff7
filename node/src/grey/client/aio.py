# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The asynchronous client of a federation's key-value API."""

from __future__ import annotations

import base64
import random
import re
import ssl
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Self, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import msgspec

from grey.client import answers, keys
from grey.client.call import Caller, Plan, Reply
from grey.client.consistency import Consistency
from grey.client.errors import BadAnswer, BadRequest, OutcomeUnknown, ValueTooLarge
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
from grey.client.route import Router
from grey.client.transport import Answer, Request, Transport
from grey.config import ctl
from grey.link.tls import TlsFiles, client_context

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from grey.config.model import Federation

MAX_VALUE_BYTES = 1_048_576
MAX_BATCH_OPERATIONS = 100
MAX_PAGE_ITEMS = 1000

T = TypeVar("T")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class Options(TypedDict, total=False):
    """What may be said of a client beside whom it talks to.

    ``prefer``: the nearest cluster (else the one with the greatest weight). ``primary``: whom to ask first
    for writes, until told otherwise. ``timeout_seconds`` bounds a call (15), ``attempt_seconds`` one request
    of it (5), ``connect_seconds`` one connection (2); ``connections`` is the most that are open (100).
    """

    prefer: str | None
    primary: str | None
    timeout_seconds: float
    attempt_seconds: float
    connect_seconds: float
    connections: int


class AsyncClient:
    """Reads go to the nearest cluster, writes and strong reads to the primary, wherever that is.

    A call that fails for a reason that may pass is repeated, writes with the same request id, until its
    deadline. Use it in one event loop, for any number of calls at a time. Close it, or use ``async with``.
    """

    def __init__(
        self,
        clusters: Sequence[ClusterEndpoint],
        *,
        tls: TlsFiles | ssl.SSLContext | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
        **options: Unpack[Options],
    ) -> None:
        """``tls``: certificate, key and trust bundle (None: plain HTTP). Raises ValueError for clusters or
        names that make no sense, grey.link.tls.TlsError for a file that cannot be used.

        ``names``: host name to addresses, asked before the system's resolver.
        """
        context = tls if tls is None or isinstance(tls, ssl.SSLContext) else client_context(tls)
        self._router = Router(clusters, prefer=options.get("prefer"), primary=options.get("primary"))
        self._transport = Transport(
            context,
            names or {},
            connect_seconds=options.get("connect_seconds", 2.0),
            connections=options.get("connections", 100),
        )
        self._timeout_seconds = options.get("timeout_seconds", 15.0)
        self._caller = Caller(
            self._transport,
            self._router,
            attempt_seconds=options.get("attempt_seconds", 5.0),
            dice=random.SystemRandom(),
        )

    @classmethod
    def from_federation(
        cls,
        federation: Federation,
        *,
        tls: TlsFiles | ssl.SSLContext | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """Return a client of all clusters of a federation file.

        Without ``tls`` the files of the control plane's certificate are used, unless the federation's API
        has no TLS.
        """
        clusters, tls = of_federation(federation, tls, options)
        return cls(clusters, tls=tls, names=names, **options)

    @classmethod
    def from_config(cls, path: str | Path, federation: str | None = None, **options: Unpack[Options]) -> Self:
        """Return a client of a federation that grey-ctl's file names; it may be left out if that names one.

        Raises grey.config.errors.ConfigError.
        """
        found = ctl.access(path, federation)
        return cls.from_federation(found.federation, tls=found.tls, names=found.names, **options)

    @property
    def primary(self) -> str | None:
        """The cluster that is held to be the primary; None before the first hint."""
        return self._router.primary

    async def get(
        self,
        key: str | bytes,
        *,
        consistency: Consistency = Consistency.EVENTUAL,
        cluster: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Value | None:
        """Return the value of a key, None when it does not exist. ``cluster``: ask this one alone.

        Raises BadRequest, NotPrimary, Fenced, TooStale, Unavailable, Overloaded, Forbidden, NodeFault.
        """
        data = keys.key_bytes(key)
        query = f"?consistency={consistency.mode}"
        if consistency.max_staleness_seconds is not None:
            # Rounded down, so that nothing staler than asked for is accepted.
            query += f"&max_staleness={max(1, int(consistency.max_staleness_seconds * 1000))}ms"
        reply = await self._caller.call(
            Plan(
                Request("GET", f"/v1/kv/{keys.segment(data)}{query}"),
                what=f"get {keys.to_text(data)}",
                to_primary=consistency.mode == "strong",
                timeout_seconds=self._timeout(timeout_seconds),
                only=self._only(cluster),
            )
        )
        return None if reply.answer.status == 404 else answers.value(data, reply.answer)

    async def put(
        self,
        key: str | bytes,
        value: bytes,
        *,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Written:
        """Set a key to a value of at most 1 MiB; ``request_id`` repeats a put whose outcome is unknown.

        Raises OutcomeUnknown, BadRequest, ValueTooLarge, NotPrimary, Fenced, RequestIdReused, Overloaded,
        DiskFull, Unavailable, Forbidden.
        """
        data = keys.key_bytes(key)
        _check_size(len(value), "the value")
        request = Request("PUT", f"/v1/kv/{keys.segment(data)}", body=value)
        reply, name = await self._write(request, f"put {keys.to_text(data)}", request_id, timeout_seconds)
        return _acknowledged(lambda answer: answers.written(data, answer), reply, name)

    async def delete(
        self, key: str | bytes, *, request_id: str | None = None, timeout_seconds: float | None = None
    ) -> Deleted:
        """Remove a key; the answer says whether it existed. Raises what ``put`` raises."""
        data = keys.key_bytes(key)
        request = Request("DELETE", f"/v1/kv/{keys.segment(data)}")
        reply, name = await self._write(request, f"delete {keys.to_text(data)}", request_id, timeout_seconds)
        return _acknowledged(lambda answer: answers.deleted(data, answer), reply, name)

    async def batch(
        self,
        operations: Sequence[Put | Delete],
        *,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Sequence[BatchResult]:
        """Carry out 1 to 100 operations on distinct keys, all or none, on every cluster.

        The values have at most 1 MiB together. Raises what ``put`` raises.
        """
        request = Request(
            "POST", "/v1/batch", headers={"Content-Type": "application/json"}, body=_batch_body(operations)
        )
        what = f"batch of {len(operations)}"
        reply, name = await self._write(request, what, request_id, timeout_seconds)
        return _acknowledged(answers.batch, reply, name)

    async def page(
        self,
        prefix: str | bytes = b"",
        *,
        after: str | None = None,
        limit: int = 100,
        values: bool = True,
        cluster: str | None = None,
        first: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Page:
        """Return one page of the keys with a prefix, in the order of their bytes.

        ``after`` is the ``next`` of the page before; ``limit`` is 1 to 1,000. ``first`` is a cluster to ask
        before the others, ``cluster`` one to ask alone. Raises what ``get`` raises.
        """
        if not 1 <= limit <= MAX_PAGE_ITEMS:
            raise BadRequest(f"a page has a limit of 1 to {MAX_PAGE_ITEMS} keys, not {limit}")
        data = keys.prefix_bytes(prefix)
        query = f"prefix={quote(data, safe='')}&limit={limit}&values={'true' if values else 'false'}"
        if after is not None:
            query += f"&after={quote(after, safe='')}"
        reply = await self._caller.call(
            Plan(
                Request("GET", f"/v1/kv?{query}"),
                what=f"list {keys.to_text(data)}",
                to_primary=False,
                timeout_seconds=self._timeout(timeout_seconds),
                only=self._only(cluster),
                first=first,
            )
        )
        if reply.answer.status == 404:
            raise answers.problem(reply.answer).exception(reply.cluster)
        return answers.page(reply.cluster, reply.answer)

    async def pages(
        self,
        prefix: str | bytes = b"",
        *,
        values: bool = True,
        page_size: int = 100,
        cluster: str | None = None,
        timeout_seconds: float | None = None,
    ) -> AsyncGenerator[Page, None]:
        """Iterate over the pages of the keys with a prefix; the time limit is that of one page.

        All pages come from the cluster that gave the first one, as long as it answers.
        """
        after, first = None, None
        while True:
            page = await self.page(
                prefix,
                after=after,
                limit=page_size,
                values=values,
                cluster=cluster,
                first=first,
                timeout_seconds=timeout_seconds,
            )
            yield page
            if page.next is None:
                return
            after, first = page.next, page.cluster

    async def list(
        self,
        prefix: str | bytes = b"",
        *,
        values: bool = True,
        page_size: int = 100,
        cluster: str | None = None,
        timeout_seconds: float | None = None,
    ) -> AsyncGenerator[Item, None]:
        """Iterate over the keys with a prefix, in the order of their bytes; see ``pages``."""
        pages = self.pages(
            prefix, values=values, page_size=page_size, cluster=cluster, timeout_seconds=timeout_seconds
        )
        async with aclosing(pages):
            async for page in pages:
                for item in page.items:
                    yield item

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _write(
        self, request: Request, what: str, request_id: str | None, timeout_seconds: float | None
    ) -> tuple[Reply, str]:
        name = uuid.uuid4().hex if request_id is None else request_id
        if not _REQUEST_ID.fullmatch(name):
            raise BadRequest(f"a request id is 1 to 64 of A-Za-z0-9._-, not {name!r}")
        headers = {**request.headers, "Grey-Request-Id": name}
        plan = Plan(
            msgspec.structs.replace(request, headers=headers),
            what=what,
            to_primary=True,
            timeout_seconds=self._timeout(timeout_seconds),
            write_id=name,
        )
        return await self._caller.call(plan), name

    def _timeout(self, timeout_seconds: float | None) -> float:
        return self._timeout_seconds if timeout_seconds is None else timeout_seconds

    def _only(self, name: str | None) -> ClusterEndpoint | None:
        if name is None:
            return None
        cluster = self._router.cluster(name)
        if cluster is None:
            raise BadRequest(
                f"there is no cluster {name}, the clusters are {', '.join(self._router.names())}"
            )
        return cluster


def of_federation(
    federation: Federation, tls: TlsFiles | ssl.SSLContext | None, options: Options
) -> tuple[list[ClusterEndpoint], TlsFiles | ssl.SSLContext | None]:
    """Return the clusters of a federation file and their TLS; set the default of ``primary``."""
    if "primary" not in options:
        options["primary"] = next((each.name for each in federation.clusters if each.role == "primary"), None)
    clusters = [ClusterEndpoint(each.name, str(each.endpoint), each.weight) for each in federation.clusters]
    if federation.security.api_tls == "off":
        return clusters, None
    return clusters, tls or federation.control_plane.tls


def _check_size(size: int, what: str) -> None:
    if size > MAX_VALUE_BYTES:
        raise ValueTooLarge(
            f"{what} may have {MAX_VALUE_BYTES} bytes, found {size}",
            hint="split it over several keys",
            detail={"limit_bytes": MAX_VALUE_BYTES},
        )


def _batch_body(operations: Sequence[Put | Delete]) -> bytes:
    if not 1 <= len(operations) <= MAX_BATCH_OPERATIONS:
        raise BadRequest(f"a batch has 1 to {MAX_BATCH_OPERATIONS} operations, not {len(operations)}")
    _check_size(
        sum(len(operation.value) for operation in operations if isinstance(operation, Put)),
        "the values of a batch together",
    )
    written: set[bytes] = set()
    body = []
    for operation in operations:
        key = keys.key_bytes(operation.key)
        if key in written:
            raise BadRequest(f"a batch names each key once, {keys.to_text(key)} is there twice")
        written.add(key)
        if isinstance(operation, Put):
            value = base64.b64encode(operation.value).decode()
            body.append({"op": "put", "key": keys.to_text(key), "value_base64": value})
        else:
            body.append({"op": "delete", "key": keys.to_text(key)})
    return msgspec.json.encode({"operations": body})


def _acknowledged(read: Callable[[Answer], T], reply: Reply, request_id: str) -> T:
    try:
        return read(reply.answer)
    except BadAnswer as error:
        raise OutcomeUnknown(
            f"the write may or may not have happened: the answer of {reply.cluster} is garbled: {error}",
            request_id=request_id,
        ) from error
