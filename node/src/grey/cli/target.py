# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which federation a command is about, and how to reach it."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, TypeVar

import click

from grey.cli import complete
from grey.cli.ctl_path import VARIABLE, file_path
from grey.cli.errors import WRONG, CliError, wrong_file
from grey.cli.teach import Titled
from grey.client import AsyncClient
from grey.config import ctl
from grey.config.errors import BadValue, ConfigError
from grey.config.units import duration
from grey.link.tls import TlsError, check_time, inspect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

F = TypeVar("F", bound="Callable[..., Any]")

_SECTION = "Which federation"


class Target(ctl.Access, frozen=True):
    """A federation that a command is about."""

    def client(self, timeout_seconds: float) -> AsyncClient:
        """Return a client of the federation; call it inside the event loop and close it."""
        return AsyncClient.from_federation(
            self.federation, tls=self.tls, names=self.names, timeout_seconds=timeout_seconds
        )


class Where:
    """What the options say of the federation; nothing is read before it is needed."""

    def __init__(self, config: str | None, context: str | None, federation: str | None) -> None:
        """What is None may have been given before the command."""
        above: Mapping[str, Any] = click.get_current_context().find_object(dict) or {}
        self._config = config or above.get("config")
        named = context or federation
        # The nearer word counts: a context named here is not bound by a federation named before the command.
        self._context = context if named else above.get("context")
        self._federation = federation if named else above.get("federation")

    @property
    def path(self) -> Path:
        """grey-ctl's own file."""
        return file_path(self._config)

    @property
    def context(self) -> str | None:
        """The context that was named."""
        return self._context

    def find(self) -> Target:
        """Read grey-ctl's file and the federation file that it names. Raises CliError (exit 2)."""
        found = self.access()
        try:
            check_time(found.tls, inspect(found.tls), time.time())
        except TlsError as error:
            raise CliError(str(error), code=WRONG) from None
        return Target(found.federation, found.tls, found.names, found.context)

    def access(self) -> ctl.Access:
        """Like ``find``, without a look at the certificate."""
        path = self.path
        if not path.exists():
            raise CliError(
                f"{path} does not exist",
                f"name grey-ctl's file with --config or {VARIABLE} (deploy.yml writes one), "
                "or make one: grey-ctl context add",
                code=WRONG,
            )
        try:
            return ctl.access(path, self._federation, context=self._context)
        except ConfigError as error:
            raise wrong_file(error) from None


class Duration(click.ParamType[float]):
    """An option such as 100ms, 30s or 5m; its value is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the option."""
        if isinstance(value, float):
            return value
        try:
            seconds = duration(value)
        except BadValue as error:
            self.fail(str(error), param, ctx)
        if seconds <= 0:
            self.fail("it must be longer than nothing", param, ctx)
        return seconds


_config_option = click.option(
    "--config",
    cls=Titled,
    section=_SECTION,
    metavar="FILE",
    type=click.Path(),
    help=f"grey-ctl's own file; else ${VARIABLE}, else ~/.config/grey/ctl.yaml.",
)
_choices = (
    _config_option,
    click.option(
        "--context",
        cls=Titled,
        section=_SECTION,
        metavar="NAME",
        shell_complete=complete.contexts,
        help="Which context of the file; else the one in use (grey-ctl context).",
    ),
    click.option(
        "--federation",
        cls=Titled,
        section=_SECTION,
        metavar="NAME",
        shell_complete=complete.federations,
        help="Which federation of the file; may be left out if it has one.",
    ),
)


def named_options(command: F) -> F:
    """Add ``--config``, ``--context`` and ``--federation`` as they are."""
    for option in reversed(_choices):
        command = option(command)
    return command


def target_options(command: F) -> F:
    """Add ``--config``, ``--context`` and ``--federation`` to a command, which gets them as ``where``."""

    @functools.wraps(command)
    def run(*args: Any, config: str | None, context: str | None, federation: str | None, **more: Any) -> Any:
        return command(*args, where=Where(config, context, federation), **more)

    return named_options(run)  # type: ignore[return-value]


def file_options(command: F) -> F:
    """Add ``--config`` alone to a command, which gets the path as ``path``."""

    @functools.wraps(command)
    def run(*args: Any, config: str | None, **more: Any) -> Any:
        return command(*args, path=Where(config, None, None).path, **more)

    return _config_option(run)  # type: ignore[return-value]
