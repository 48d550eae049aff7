# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The asynchronous client of a federation's key-value API."""

from __future__ import annotations

import random
import re
import ssl
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Self, TypedDict, TypeVar, Unpack

import msgspec

from grey.client import answers, keys, requests
from grey.client.call import Caller, Plan, Reply
from grey.client.consistency import Consistency
from grey.client.errors import BadAnswer, BadRequest, OutcomeUnknown
from grey.client.model import (
    BatchResult,
    ClusterEndpoint,
    Delete,
    Deleted,
    Item,
    Missing,
    Page,
    Put,
    Value,
    Written,
)
from grey.client.read import Get
from grey.client.route import Router
from grey.client.transport import Answer, Request, Transport
from grey.client.watch import Watch, WatchPlan
from grey.config import ctl
from grey.link.reload import ReloadingContext

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from grey.client.requests import At, Ttl
    from grey.config.model import Federation
    from grey.link.tls import TlsFiles

T = TypeVar("T")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class Options(TypedDict, total=False):
    """What may be said of a client beside whom it talks to.

    ``prefer``: the nearest cluster (else the one with the greatest weight). ``primary``: whom to ask first
    for writes, until told otherwise. ``timeout_seconds`` bounds a call (15), ``attempt_seconds`` one request
    of it (5), ``connect_seconds`` one connection (2); ``connections`` is the most that are open (100), beside
    those of watches. A watch that hears nothing for ``silence_seconds`` (15) goes on elsewhere.
    """

    prefer: str | None
    primary: str | None
    timeout_seconds: float
    attempt_seconds: float
    connect_seconds: float
    connections: int
    silence_seconds: float


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
        """``tls``: certificate, key and trust bundle, taken anew when they change (None: plain HTTP).

        ``names``: host name to addresses, asked before the system's resolver. Raises ValueError for clusters
        or names that make no sense, grey.link.tls.TlsError for a file that cannot be used.
        """
        context = tls if tls is None or isinstance(tls, ssl.SSLContext) else ReloadingContext(tls)
        self._dice = random.SystemRandom()
        self._router = Router(clusters, prefer=options.get("prefer"), primary=options.get("primary"))
        self._transport = Transport(
            context,
            names or {},
            connect_seconds=options.get("connect_seconds", 2.0),
            connections=options.get("connections", 100),
            dice=self._dice,
        )
        self._timeout_seconds = options.get("timeout_seconds", 15.0)
        self._caller = Caller(
            self._transport,
            self._router,
            attempt_seconds=options.get("attempt_seconds", 5.0),
            dice=self._dice,
        )
        self._silence_seconds = options.get("silence_seconds", 15.0)

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
    def from_config(
        cls,
        path: str | Path,
        federation: str | None = None,
        context: str | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """Return a client of a federation, or of a context, that grey-ctl's file names.

        Without either it is the file's current context, or its only federation. Raises
        grey.config.errors.ConfigError.
        """
        found = ctl.access(path, federation, context=context)
        return cls.from_federation(found.federation, tls=found.tls, names=found.names, **options)

    @property
    def primary(self) -> str | None:
        """The cluster that is held to be the primary; None before the first hint."""
        return self._router.primary

    def get(
        self,
        key: str | bytes,
        *,
        consistency: Consistency = Consistency.EVENTUAL,
        cluster: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Get:
        """Read a key: ``await client.get(key)`` is its value, None when it does not exist.

        ``await client.get(key).consistency(Consistency.STRONG)`` says the same as ``consistency=``.
        ``cluster``: ask this one alone. Awaiting it raises BadRequest, NotPrimary, Fenced, TooStale,
        Unavailable, Overloaded, RateLimited, Forbidden, NodeFault.
        """

        async def read(wanted: Consistency) -> Value | None:
            found = await self.look(key, consistency=wanted, cluster=cluster, timeout_seconds=timeout_seconds)
            return None if isinstance(found, Missing) else found

        return Get(read, consistency)

    async def look(
        self,
        key: str | bytes,
        *,
        consistency: Consistency = Consistency.EVENTUAL,
        cluster: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Value | Missing:
        """Read a key as ``get`` does; of one that does not exist, say which cluster says so, and how old
        its state may be.
        """
        data = requests.key_bytes(key)
        reply = await self._caller.call(
            Plan(
                requests.get(data, consistency),
                what=f"get {keys.to_text(data)}",
                to_primary=consistency.mode == "strong",
                timeout_seconds=self._timeout(timeout_seconds),
                only=self._only(cluster),
            )
        )
        if reply.answer.status == 404:
            return answers.missing(data, reply.cluster, reply.answer)
        return answers.value(data, reply.answer)

    async def put(
        self,
        key: str | bytes,
        value: bytes,
        *,
        ttl: Ttl = None,
        if_absent: bool = False,
        if_position: At = None,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Written:
        """Set a key to a value of at most 1 MiB; ``request_id`` repeats a put whose outcome is unknown.

        ``ttl``: seconds (or a timedelta) after which the key is deleted, 1 second to 10 years. ``if_absent``:
        only if the key does not exist; ``if_position``: only if it is still there. Raises ConditionFailed,
        OutcomeUnknown, BadRequest, ValueTooLarge, NotPrimary, Fenced, RequestIdReused, Overloaded,
        RateLimited, DiskFull, Unavailable, Forbidden.
        """
        data = requests.key_bytes(key)
        request = requests.put(data, value, ttl=ttl, if_absent=if_absent, if_position=if_position)
        reply, name = await self._write(request, f"put {keys.to_text(data)}", request_id, timeout_seconds)
        return _acknowledged(lambda answer: answers.written(data, answer), reply, name)

    async def delete(
        self,
        key: str | bytes,
        *,
        if_position: At = None,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Deleted:
        """Remove a key; the answer says whether it existed. Takes and raises what ``put`` does."""
        data = requests.key_bytes(key)
        request = requests.delete(data, if_position=if_position)
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

        The values have at most 1 MiB together; one condition that fails makes all of them fail. Raises what
        ``put`` raises.
        """
        request = requests.batch(operations)
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

        ``after`` is the ``next`` of the page before, which also holds the snapshot; ``limit`` is 1 to 1,000.
        ``first`` is a cluster to ask before the others, ``cluster`` one to ask alone. Raises Compacted when
        the snapshot is gone, else what ``get`` raises.
        """
        data = requests.prefix_bytes(prefix)
        reply = await self._caller.call(
            Plan(
                requests.page(data, after=after, limit=limit, values=values),
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

        All pages show one state, that of the first page's position, whichever clusters answer. Raises
        Compacted when that state is gone before the last page, else what ``get`` raises.
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

    def watch(
        self,
        prefix: str | bytes = b"",
        after: At = None,
        *,
        values: bool = True,
        cluster: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Watch:
        """Follow the changes of the keys with a prefix: iterate over what this returns; see ``Watch``.

        ``after`` is a position, of a listing for example; without it the watch begins when it connects.
        ``cluster``: listen to this one alone. ``timeout_seconds`` bounds the search for a cluster, each time
        there is none. Raises BadRequest.
        """
        plan = WatchPlan(
            requests.prefix_bytes(prefix),
            values=values,
            timeout_seconds=self._timeout(timeout_seconds),
            silence_seconds=self._silence_seconds,
            only=self._only(cluster),
        )
        return Watch(
            self._caller, plan, requests.position_of(after), dice=self._dice, shun=self._transport.bad
        )

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


def _acknowledged(read: Callable[[Answer], T], reply: Reply, request_id: str) -> T:
    try:
        return read(reply.answer)
    except BadAnswer as error:
        raise OutcomeUnknown(
            f"the write may or may not have happened: the answer of {reply.cluster} is garbled: {error}",
            request_id=request_id,
        ) from error
