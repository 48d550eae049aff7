# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which federation a command is about, and how to reach it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from grey.cli.errors import WRONG, CliError
from grey.client import AsyncClient
from grey.config import ctl
from grey.config import federation as federation_file
from grey.config.errors import BadValue, ConfigError
from grey.config.model import Federation, TlsFiles
from grey.config.units import duration
from grey.link.tls import TlsError, check_time, inspect

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

VARIABLE = "GREY_CTL_CONFIG"


class Target(msgspec.Struct, frozen=True):
    """A federation as its file describes it, the operator's certificate, and the name map."""

    federation: Federation
    tls: TlsFiles
    names: dict[str, tuple[str, ...]]

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
    """Read grey-ctl's file and the federation file that it names. Raises CliError (exit 2)."""
    path = _path(config)
    try:
        known = ctl.load(path).federations
        chosen, entry = _choose(known, name, path)
        federation = federation_file.load(entry.federation_file)
    except ConfigError as error:
        first, *more = [str(fault) for fault in error.faults]
        raise CliError(first, code=WRONG, more=more) from None
    if federation.name != chosen:
        raise CliError(
            f"{path}: the entry {chosen} points at {entry.federation_file}, which is of {federation.name}",
            "name the entry like the federation",
            code=WRONG,
        )
    try:
        check_time(entry.tls, inspect(entry.tls), time.time())
    except TlsError as error:
        raise CliError(str(error), code=WRONG) from None
    return Target(federation, entry.tls, entry.names)


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


def _choose(
    known: dict[str, ctl.CtlFederation], name: str | None, path: Path
) -> tuple[str, ctl.CtlFederation]:
    names = ", ".join(known) or "none"
    if name is None:
        if len(known) != 1:
            raise CliError(
                f"{path} names these federations: {names}", "choose with --federation NAME", code=WRONG
            )
        return next(iter(known.items()))
    if name not in known:
        raise CliError(
            f"{path} has no federation {name}, it names: {names}", "check --federation", code=WRONG
        )
    return name, known[name]
