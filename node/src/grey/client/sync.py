# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client for programs without an event loop: the asynchronous one, run in a thread of its own."""

from __future__ import annotations

import functools
import weakref
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar, Unpack

from anyio.from_thread import start_blocking_portal

from grey.client.aio import AsyncClient, Options, of_federation
from grey.client.consistency import Consistency
from grey.config import ctl

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from anyio.from_thread import BlockingPortal

    from grey.client.model import (
        BatchResult,
        ClusterEndpoint,
        Delete,
        Deleted,
        Event,
        Item,
        Missing,
        Page,
        Put,
        Value,
        Written,
    )
    from grey.client.requests import At, Ttl
    from grey.client.watch import Watch
    from grey.config.model import Federation
    from grey.link.tls import TlsFiles
    from grey.record.position import Position

P = ParamSpec("P")
T = TypeVar("T")


class Client:
    """``AsyncClient`` without ``await``; may be shared between threads. Close it, or use ``with``."""

    def __init__(
        self,
        clusters: Sequence[ClusterEndpoint],
        *,
        tls: TlsFiles | ssl.SSLContext | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
        **options: Unpack[Options],
    ) -> None:
        """See ``AsyncClient``."""
        self._client = AsyncClient(clusters, tls=tls, names=names, **options)
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal("asyncio", name="grey-client"))
            stack.callback(self._portal.call, self._client.close)
            # Also closes a client that was forgotten, before the interpreter stops the thread it waits for.
            self._finish = weakref.finalize(self, stack.pop_all().close)

    @classmethod
    def from_federation(
        cls,
        federation: Federation,
        *,
        tls: TlsFiles | ssl.SSLContext | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """See ``AsyncClient.from_federation``."""
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
        """See ``AsyncClient.from_config``."""
        found = ctl.access(path, federation, context=context)
        return cls.from_federation(found.federation, tls=found.tls, names=found.names, **options)

    @property
    def primary(self) -> str | None:
        """See ``AsyncClient.primary``."""
        return self._client.primary

    def get(
        self,
        key: str | bytes,
        *,
        consistency: Consistency = Consistency.EVENTUAL,
        cluster: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Value | None:
        """See ``AsyncClient.get``."""
        return self._run(
            self._client.get, key, consistency=consistency, cluster=cluster, timeout_seconds=timeout_seconds
        )

    def look(
        self,
        key: str | bytes,
        *,
        consistency: Consistency = Consistency.EVENTUAL,
        cluster: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Value | Missing:
        """See ``AsyncClient.look``."""
        return self._run(
            self._client.look, key, consistency=consistency, cluster=cluster, timeout_seconds=timeout_seconds
        )

    def put(
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
        """See ``AsyncClient.put``."""
        return self._run(
            self._client.put,
            key,
            value,
            ttl=ttl,
            if_absent=if_absent,
            if_position=if_position,
            request_id=request_id,
            timeout_seconds=timeout_seconds,
        )

    def delete(
        self,
        key: str | bytes,
        *,
        if_position: At = None,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Deleted:
        """See ``AsyncClient.delete``."""
        return self._run(
            self._client.delete,
            key,
            if_position=if_position,
            request_id=request_id,
            timeout_seconds=timeout_seconds,
        )

    def batch(
        self,
        operations: Sequence[Put | Delete],
        *,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Sequence[BatchResult]:
        """See ``AsyncClient.batch``."""
        return self._run(
            self._client.batch, operations, request_id=request_id, timeout_seconds=timeout_seconds
        )

    def page(
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
        """See ``AsyncClient.page``."""
        return self._run(
            self._client.page,
            prefix,
            after=after,
            limit=limit,
            values=values,
            cluster=cluster,
            first=first,
            timeout_seconds=timeout_seconds,
        )

    def pages(
        self,
        prefix: str | bytes = b"",
        *,
        values: bool = True,
        page_size: int = 100,
        cluster: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Iterator[Page]:
        """See ``AsyncClient.pages``."""
        pages = self._client.pages(
            prefix, values=values, page_size=page_size, cluster=cluster, timeout_seconds=timeout_seconds
        )
        try:
            while (page := self._run(_next, pages)) is not None:
                yield page
        finally:
            self._run(pages.aclose)

    def list(
        self,
        prefix: str | bytes = b"",
        *,
        values: bool = True,
        page_size: int = 100,
        cluster: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Iterator[Item]:
        """See ``AsyncClient.list``."""
        for page in self.pages(
            prefix, values=values, page_size=page_size, cluster=cluster, timeout_seconds=timeout_seconds
        ):
            yield from page.items

    def watch(
        self,
        prefix: str | bytes = b"",
        after: At = None,
        *,
        values: bool = True,
        cluster: str | None = None,
        timeout_seconds: float | None = None,
    ) -> SyncWatch:
        """See ``AsyncClient.watch``; iterate with ``for``, or use ``with``."""
        watch = self._client.watch(
            prefix, after, values=values, cluster=cluster, timeout_seconds=timeout_seconds
        )
        return SyncWatch(watch, self._portal)

    def close(self) -> None:
        """Close all connections and end the thread; calls of other threads fail."""
        self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, function: Callable[P, Awaitable[T]], *arguments: P.args, **options: P.kwargs) -> T:
        return self._portal.call(functools.partial(function, *arguments, **options))


class SyncWatch:
    """``grey.client.watch.Watch`` without ``await``."""

    def __init__(self, watch: Watch, portal: BlockingPortal) -> None:
        self._watch = watch
        self._portal = portal
        # A watch that was forgotten is closed in the thread that it belongs to.
        self._finish = weakref.finalize(self, _close, watch, portal)

    @property
    def position(self) -> Position | None:
        """See ``Watch.position``."""
        return self._watch.position

    @property
    def cluster(self) -> str | None:
        """See ``Watch.cluster``."""
        return self._watch.cluster

    def connect(self) -> None:
        """See ``Watch.connect``."""
        self._portal.call(self._watch.connect)

    def close(self) -> None:
        """End it; an iteration in another thread ends too."""
        self._finish()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        """See ``Watch.__anext__``."""
        event = self._portal.call(_event, self._watch)
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _close(watch: Watch, portal: BlockingPortal) -> None:
    # When the client was closed before, its watches are closed too, and there is no thread to ask.
    with suppress(RuntimeError):
        portal.call(watch.aclose)


async def _event(watch: Watch) -> Event | None:
    return await anext(watch, None)


async def _next(pages: AsyncGenerator[Page, None]) -> Page | None:
    return await anext(pages, None)
