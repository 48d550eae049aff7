# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands ``greyd snapshot ...`` (docs/reference/node-file.md)."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from grey.daemon.command import FAILED, REFUSED, WRONG_FILE, answer, config_option, load, stop
from grey.daemon.identity_file import StateRefused
from grey.data.errors import DataError
from grey.federation.interface import FederationStoreError
from grey.federation.records import DamagedRecord
from grey.store.interface import StoreDamaged, StoreError

if TYPE_CHECKING:
    from collections.abc import Coroutine

_file = click.argument("file", type=click.Path(path_type=Path))


@click.group("snapshot")
def snapshot_group() -> None:
    """Save, verify and restore this cluster's data."""


@snapshot_group.command("save")
@config_option
@click.option("--to", "target", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option(
    "--store",
    type=click.Choice(["data", "federation"]),
    default="data",
    show_default=True,
    help="This cluster's data, or the federation store.",
)
@click.option(
    "--without-majority",
    is_flag=True,
    help="Be content with what one member holds, which may lag: when the others are lost.",
)
def save_command(path: str, target: Path, store: str, *, without_majority: bool) -> None:
    """Save a consistent snapshot while everything runs."""
    from grey.daemon import snapshot_save

    config, federation = load(path)
    save = snapshot_save.save_data if store == "data" else snapshot_save.save_federation_store
    _run(save(config, federation, target.absolute(), majority=not without_majority))


@snapshot_group.command("verify")
@_file
@click.option("--config", "path", type=click.Path(), help="The node's file: it says where etcd is.")
@click.option(
    "--scratch",
    "folder",
    type=click.Path(path_type=Path),
    help="A folder with room for twice the snapshot; else the snapshot's own.",
)
def verify_command(file: Path, path: str | None, folder: Path | None) -> None:
    """Restore a snapshot into a throw-away engine and read every record."""
    from grey.daemon import snapshot_verify

    etcd = None
    if path is not None:
        config, _ = load(path)
        members = (config.store.member, config.federation_store and config.federation_store.member)
        etcd = next((member.etcd for member in members if member), None)
    _run(
        snapshot_verify.verify(file.absolute(), etcd=etcd, folder=folder),
        bad={"ok": False, "file": str(file)},
    )


@snapshot_group.command("restore")
@_file
@config_option
@click.option("--token", help="What tells the restored engine from every other: new, the same on every host.")
@click.option(
    "--member",
    "members",
    multiple=True,
    metavar="NAME=ADDRESS:PORT",
    help="A member of the restored engine; repeated, this one too.",
)
@click.option(
    "--bootstrap",
    type=click.Path(path_type=Path),
    help='Instead of both, a file: {"token": "...", "members": {"NAME": "ADDRESS:PORT"}}.',
)
def restore_command(
    file: Path, path: str, token: str | None, members: tuple[str, ...], bootstrap: Path | None
) -> None:
    """Make this node's data folder from a snapshot, while its cluster is stopped."""
    from grey.daemon import snapshot_restore
    from grey.daemon.snapshot_target import BadBeginning, Beginning, read_beginning

    config, federation = load(path)
    if bootstrap is not None and (token is not None or members):
        raise click.UsageError("--bootstrap says token and members: give it alone")
    named = dict(each.partition("=")[::2] for each in members)
    try:
        beginning = read_beginning(bootstrap) if bootstrap else Beginning(token, named)
        _run(snapshot_restore.restore(config, federation, file.absolute(), beginning))
    except BadBeginning as error:
        stop(WRONG_FILE, str(error))


@snapshot_group.command("new-epoch")
@config_option
def new_epoch_command(path: str) -> None:
    """Let a restored primary write again, in a new epoch that forks at its snapshot."""
    from grey.daemon.new_epoch import begin

    config, federation = load(path)
    _run(begin(config, federation))


def _run(work: Coroutine[Any, Any, Any], *, bad: dict[str, Any] | None = None) -> None:
    """Carry out a command; ``bad`` is printed, with the problem, when a snapshot is bad."""
    # SIGTERM ends this process as Ctrl-C does: what was begun is cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        answer(asyncio.run(work))
    except StoreDamaged as error:
        if bad is not None:
            answer(bad | {"problem": str(error)})
        stop(REFUSED, str(error))
    except (StateRefused, DamagedRecord) as error:
        stop(REFUSED, str(error))
    except (DataError, StoreError, FederationStoreError) as error:
        stop(FAILED, str(error))
    except OSError as error:
        stop(FAILED, f"{error.filename or 'the disk'}: {error.strerror}")
