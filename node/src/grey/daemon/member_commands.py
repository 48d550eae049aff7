# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``greyd engine ...`` and ``greyd federation-store ...``: become an etcd, ask how it is, change its members.

Without a further word the process becomes the member, which is what a program manager starts.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from grey.config import values
from grey.config.errors import BadValue
from grey.daemon.command import FAILED, REFUSED, WRONG_FILE, answer, config_option, load, load_either, stop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import msgspec

    from grey.daemon.etcd_commands import Etcd, Members
    from grey.link.etcd_group import Group


def _engine(path: str) -> Etcd:
    from grey.daemon.etcd_commands import Engine

    return Engine(*load(path))


def _federation_store(path: str) -> Etcd:
    from grey.daemon.etcd_commands import FederationStore

    config, federation = load_either(path)
    return FederationStore(config.federation_store, federation)


def groups() -> list[click.Group]:
    """Return the two commands."""
    return [
        _made("engine", "the cluster's engine", _engine),
        _made("federation-store", "the federation store", _federation_store),
    ]


def _made(name: str, store: str, kind: Callable[[str], Etcd]) -> click.Group:
    """Make a command: alone it becomes the member; its subcommands ask and change the members."""

    @click.group(name, invoke_without_command=True, help=f"Become this host's member of {store}.")
    @config_option
    @click.option("--check-health", is_flag=True, help="Ask how it is, instead of becoming a member.")
    @click.option("--wait", "wait_seconds", type=click.FloatRange(min=0), help="Ask for so many seconds.")
    @click.pass_context
    def group(context: click.Context, path: str, *, check_health: bool, wait_seconds: float | None) -> None:
        if context.invoked_subcommand is None:
            _run(kind, path, check_health=check_health, wait_seconds=wait_seconds or 0.0)
        elif check_health or wait_seconds is not None:
            raise click.UsageError(
                f"--check-health and --wait stand alone, without {context.invoked_subcommand}"
            )

    @group.command("members", help=f"Say who the members of {store} are.")
    @_own_config
    def members(path: str) -> None:
        from grey.daemon.etcd_commands import Members
        from grey.store.etcd_membership import healthy

        async def look(asked: Group, etcd: Etcd) -> Members:
            view = await asked.look()
            return Members(view.members, healthy(view), etcd.heartbeat())

        _ask(kind, path, look)

    @group.command("forget", help=f"Move the data of this host's former member of {store} aside.")
    @_own_config
    @click.option("--force", is_flag=True, help="Do not ask the others: the whole group is gone.")
    def forget(path: str, *, force: bool) -> None:
        _forget(kind, path, force=force)

    _add_changes(group, name, store, kind)
    return group


def _add_changes(group: click.Group, name: str, store: str, kind: Callable[[str], Etcd]) -> None:
    """Give a command the subcommands that change the members."""

    @group.command("add", help=f"Take a host into {store}, as a learner that does not vote yet.")
    @_own_config
    @_name
    @click.option("--peer", required=True, callback=_peer, help="Its ADDRESS:PORT for the other members.")
    def add(path: str, node: str, peer: str) -> None:
        from grey.store import etcd_change

        _ask(kind, path, lambda asked, _: etcd_change.add(asked, node, peer, command=f"greyd {name}"))

    @group.command("promote", help=f"Let a learner of {store} vote, once it has caught up.")
    @_own_config
    @_name
    @click.option(
        "--wait",
        "wait_seconds",
        type=click.FloatRange(min=0),
        default=0.0,
        help="Try for so many seconds, until it runs and has caught up.",
    )
    def promote(path: str, node: str, wait_seconds: float) -> None:
        from grey.store import etcd_change

        _ask(kind, path, lambda asked, _: etcd_change.promote(asked, node, wait_seconds=wait_seconds))

    @group.command("remove", help=f"Let a member of {store} go, also one that is dead or never started.")
    @_own_config
    @click.option("--name", "node", callback=_node_name, help="The member's name.")
    @click.option("--peer", callback=_peer, help="Its ADDRESS:PORT, for one that never ran: it has no name.")
    def remove(path: str, node: str | None, peer: str | None) -> None:
        from grey.store import etcd_change

        if node is None and peer is None:
            raise click.UsageError("say which member: --name NAME, or --peer ADDRESS:PORT")
        _ask(kind, path, lambda asked, _: etcd_change.remove(asked, name=node, peer=peer))


def _own_config(command: Callable[..., None]) -> Callable[..., None]:
    """Give a subcommand ``--config``; it may also stand before it."""

    def take(context: click.Context, _: click.Parameter, given: str | None) -> str:
        assert context.parent is not None
        return given if given is not None else context.parent.params["path"]

    return click.option("--config", "path", type=click.Path(), callback=take, help="The node's file.")(
        command
    )


def _node_name(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    try:
        return None if given is None else values.node_name(given)
    except BadValue as fault:
        raise click.BadParameter(str(fault)) from fault


def _peer(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    try:
        if given is None:
            return None
        found = values.endpoint(given)
        values.address(found.host)
    except BadValue as fault:
        raise click.BadParameter(str(fault)) from fault
    return str(found)


_name = click.option("--name", "node", required=True, callback=_node_name, help="The member's name.")


def _run(kind: Callable[[str], Etcd], path: str, *, check_health: bool, wait_seconds: float) -> NoReturn:
    from grey.daemon.etcd_commands import Absent
    from grey.store.etcd_data import MemberRefused, NobodyAnswers
    from grey.store.etcd_process import become

    try:
        etcd = kind(path)
        if check_health:
            result = asyncio.run(etcd.check(wait_seconds))
            answer(result)
            sys.exit(0 if result.healthy else FAILED)
        command = etcd.command()
    except Absent as error:
        stop(WRONG_FILE, f"{path}: {error}")
    except NobodyAnswers as error:
        stop(FAILED, str(error))
    except MemberRefused as error:
        stop(REFUSED, str(error))
    try:
        become(command, os.environ)
    except OSError as error:
        stop(
            FAILED,
            f"{command[0]}: cannot be started: {error.strerror}. Install etcd there, or correct the path",
        )


def _ask(
    kind: Callable[[str], Etcd],
    path: str,
    work: Callable[[Group, Etcd], Awaitable[msgspec.Struct]],
) -> None:
    from grey.daemon.etcd_commands import Absent
    from grey.link.etcd_fault import MemberFault
    from grey.store.etcd_membership import ChangeRefused

    async def run(etcd: Etcd) -> msgspec.Struct:
        async with etcd.group() as asked:
            return await work(asked, etcd)

    try:
        answer(asyncio.run(run(kind(path))))
    except Absent as error:
        stop(WRONG_FILE, f"{path}: {error}")
    except ChangeRefused as error:
        stop(FAILED, str(error))
    except MemberFault as error:
        stop(FAILED, f"the members cannot be asked: {error}")


def _forget(kind: Callable[[str], Etcd], path: str, *, force: bool) -> None:
    from grey.daemon.etcd_commands import Absent
    from grey.store.etcd_data import MemberRefused
    from grey.store.etcd_forget import forget

    try:
        answer(forget(kind(path).member(), force=force))
    except Absent as error:
        stop(WRONG_FILE, f"{path}: {error}")
    except MemberRefused as error:
        stop(FAILED, str(error))
