# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands about keys share: their options, and one call of the client."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, TypeVar

import click

from grey.cli import keytext
from grey.cli.errors import failure
from grey.cli.target import Duration, target_options
from grey.client import GreyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from grey.cli.target import Target, Where
    from grey.client import AsyncClient

F = TypeVar("F", bound="Callable[..., Any]")
T = TypeVar("T")


class Call:
    """Which federation, how long, and how keys are written."""

    def __init__(self, where: Where, timeout_seconds: float, encoding: str) -> None:
        self.where = where
        self.timeout_seconds = timeout_seconds
        self._encoding = encoding

    def key(self, text: str) -> bytes:
        """Read a key or a prefix from the command line. Raises CliError (exit 2)."""
        return keytext.key_bytes(text, self._encoding)

    def shown(self, key: bytes) -> str:
        """Return a key as it is printed."""
        return keytext.shown(key, self._encoding)

    def run(self, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
        """Carry out work with a client. Raises CliError."""
        return run(self.where.find(), self.timeout_seconds, work)


def run(target: Target, timeout_seconds: float, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """Carry out work with a client of a federation. Raises CliError."""

    async def call() -> T:
        async with target.client(timeout_seconds) as client:
            return await work(client)

    try:
        return asyncio.run(call())
    except GreyError as error:
        raise failure(error) from None


def call_options(timeout: str = "How long the whole command may take (15s).") -> Callable[[F], F]:
    """Add what every command about keys takes; it gets a ``call`` (Call)."""

    def add(command: F) -> F:
        @functools.wraps(command)
        def wrapped(*args: Any, where: Where, timeout: float, key_encoding: str, **more: Any) -> Any:
            return command(*args, call=Call(where, timeout, key_encoding), **more)

        decorated: Any = target_options(wrapped)
        for option in (
            click.option("--timeout", type=Duration(), default=15.0, help=timeout),
            click.option(
                "--key-encoding",
                type=click.Choice(keytext.ENCODINGS),
                default="utf8",
                help="percent: % and all but printable ASCII stand as %XX, so that any key can be written.",
            ),
        ):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]

    return add
