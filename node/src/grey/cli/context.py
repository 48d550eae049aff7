# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which federation a command is about, and how to reach it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from grey.cli.errors import WRONG, CliError
from grey.client import AsyncClient
from grey.config import ctl
from grey.config.errors import BadValue, ConfigError
from grey.config.units import duration
from grey.link.tls import TlsError, check_time, inspect

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

VARIABLE = "GREY_CTL_CONFIG"


class Target(ctl.Access, frozen=True):
    """A federation that a command is about."""

    def client(self, timeout_seconds: float) -> AsyncClient:
        """Return a client of the federation; call it inside the event loop and close it."""
        return AsyncClient.from_federation(
            self.federation, tls=self.tls, names=self.names, timeout_seconds=timeout_seconds
        )


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


def target_options(command: F) -> F:
    """Add ``--config`` and ``--federation`` to a command."""
    for option in (
        click.option(
            "--federation",
            metavar="NAME",
            help="Which federation of the file; may be left out if it has one.",
        ),
        click.option(
            "--config",
            metavar="FILE",
            type=click.Path(),
            help=f"grey-ctl's own file; else ${VARIABLE}, else ~/.config/grey/ctl.yaml.",
        ),
    ):
        command = option(command)
    return command


def find(config: str | None, name: str | None) -> Target:
    """Read grey-ctl's file and the federation file that it names. Raises CliError (exit 2).

    What is None may have been given before the command.
    """
    above: dict[str, str | None] = click.get_current_context().find_object(dict) or {}
    try:
        found = ctl.access(_path(config or above.get("config")), name or above.get("federation"))
    except ConfigError as error:
        first, *more = [str(fault) for fault in error.faults]
        raise CliError(first, code=WRONG, more=more) from None
    try:
        check_time(found.tls, inspect(found.tls), time.time())
    except TlsError as error:
        raise CliError(str(error), code=WRONG) from None
    return Target(found.federation, found.tls, found.names)


def _path(config: str | None) -> Path:
    given = config or os.environ.get(VARIABLE)
    path = Path(given) if given else Path.home() / ".config" / "grey" / "ctl.yaml"
    if not path.exists():
        raise CliError(
            f"{path} does not exist",
            f"name grey-ctl's file with --config or {VARIABLE}; deploy.yml writes one",
            code=WRONG,
        )
    return path
