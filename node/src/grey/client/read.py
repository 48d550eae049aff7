# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A read that is made when it is awaited, so that its consistency can be chosen first."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from grey.client.consistency import Consistency
    from grey.client.model import Value


class Get(Coroutine[Any, Any, "Value | None"]):
    """What ``AsyncClient.get`` returns: await it, once; nothing is asked before.

    It is a whole coroutine, so that tasks, gather and timeouts take it.
    """

    def __init__(
        self, read: Callable[[Consistency], Coroutine[Any, Any, Value | None]], consistency: Consistency
    ) -> None:
        self._read = read
        self._consistency = consistency
        self._running: Coroutine[Any, Any, Value | None] | None = None

    def consistency(self, consistency: Consistency) -> Get:
        """Return the same read with another consistency: ``await client.get(key).consistency(...)``."""
        return Get(self._read, consistency)

    def __await__(self) -> Generator[Any, Any, Value | None]:
        return self._start().__await__()

    def send(self, value: Any, /) -> Any:
        """Go on, as an event loop does."""
        return self._start().send(value)

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        error: BaseException | object = None,
        trace: TracebackType | None = None,
        /,
    ) -> Any:
        """Raise an exception where the read stands."""
        assert error is None
        assert trace is None
        return self._start().throw(kind)

    def close(self) -> None:
        """Give it up."""
        self._start().close()

    def _start(self) -> Coroutine[Any, Any, Value | None]:
        if self._running is None:
            self._running = self._read(self._consistency)
        return self._running
