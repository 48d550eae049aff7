# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``greyd`` (docs/reference/node-file.md)."""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import TYPE_CHECKING

import click

from grey import __version__
from grey.daemon import init as init_room
from grey.daemon import logs, member_commands
from grey.daemon.command import FAILED, REFUSED
from grey.daemon.command import answer as _print
from grey.daemon.command import config_option as _config_option
from grey.daemon.command import load as _load
from grey.daemon.command import stop as _stop
from grey.daemon.identity_file import StateRefused
from grey.daemon.snapshot_commands import snapshot_group
from grey.link.tls import TlsError
from grey.serve.errors import CannotListen
from grey.store.interface import StoreDamaged, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)


@click.group()
@click.version_option(__version__, prog_name="greyd")
def main() -> None:
    """The Grey node."""


for _group in member_commands.groups():
    main.add_command(_group)
main.add_command(snapshot_group)


@main.command("init")
@_config_option
@click.option("--check", is_flag=True, help="Say what would be made, change nothing.")
@click.option(
    "--wait", "wait_seconds", type=click.FloatRange(min=0), help="Wait so many seconds for a shared engine."
)
def init_command(path: str, *, check: bool, wait_seconds: float | None) -> None:
    """Make the empty data store and the identity file, once."""
    config, federation = _load(path)
    try:
        result = asyncio.run(
            init_room.init(config, federation, check=check, wait_seconds=wait_seconds or 0.0)
        )
    except StateRefused as error:
        _stop(REFUSED, str(error))
    except StoreError as error:
        _stop(FAILED, f"{error}. Start the engine first: greyd engine --config {path}")
    _print(result)


@main.command("forget-data")
@_config_option
def forget_command(path: str) -> None:
    """Let this cluster, a replica that is stopped, come back with new data."""
    from grey.daemon.forget import forget
    from grey.federation.interface import FederationStoreError
    from grey.federation.records import DamagedRecord

    try:
        _print(asyncio.run(forget(*_load(path))))
    except (StateRefused, DamagedRecord) as error:
        _stop(REFUSED, str(error))
    except FederationStoreError as error:
        _stop(FAILED, str(error))


@main.command("run")
@_config_option
def run_command(path: str) -> None:
    """Serve until SIGTERM."""
    # Imported here, as in the other commands: init, which deployments run again and again, is ready sooner.
    import uvloop

    from grey.daemon.node import Node

    config, federation = _load(path)
    logs.start()
    _allow_connections()
    try:
        uvloop.run(Node(config, federation).run())
    except BaseExceptionGroup as group:
        error = next(_leaves(group))
        if _code(error) == FAILED:
            _log.critical("a room failed for good", exc_info=error)
        _stop(_code(error), _words(error))
    except (StateRefused, TlsError, CannotListen, StoreDamaged) as error:
        _stop(_code(error), str(error))


def _allow_connections() -> None:
    """Take as many open files as this user may have: the usual soft limit, 1,024, is for ``select`` alone."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _code(error: BaseException) -> int:
    refused = isinstance(error, StateRefused | TlsError | CannotListen | StoreDamaged)
    return REFUSED if refused else FAILED


def _words(error: BaseException) -> str:
    return str(error) if _code(error) == REFUSED else f"{type(error).__name__}: {error}"
