# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl kv watch``: changes as they happen."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from grey.cli import complete
from grey.cli.errors import WRONG, CliError
from grey.cli.keytext import expiry_fields, item_fields, key_fields, text_of, value_fields
from grey.cli.kv_call import Call, call_options
from grey.cli.output import output_options
from grey.cli.teach import Command, Exit, exits
from grey.client import Compacted, Diverged, TooStale

if TYPE_CHECKING:
    from grey.cli.output import Output
    from grey.client import AsyncClient, Event, Item
    from grey.record.position import Position

_SHORT = 60


@click.command(
    cls=Command,
    examples=[
        ("what changes from now on", "grey-ctl kv watch --prefix user:"),
        ("from where a listing or an earlier watch stood", "grey-ctl kv watch --after 1.42"),
        ("what is there, then what changes: nothing is missed", "grey-ctl kv watch --initial"),
        ("for another program, a line of JSON for each change", "grey-ctl kv watch -o json | jq .key_text"),
    ],
    exits=exits(Exit.WRONG, Exit.REFUSED, Exit.NO_ANSWER, Exit.POSITION_GONE, Exit.INTERRUPTED),
    then=[
        "Go on later with --after and the position of the last put, delete or progress.",
        "After exit code 6 begin anew with --initial.",
    ],
)
@click.option("--prefix", default="", shell_complete=complete.keys, help="Only keys that begin so.")
@click.option("--after", metavar="POSITION", help="Changes after this position; without it from now on.")
@click.option("--initial", is_flag=True, help="First print what is there, as of one moment.")
@click.option(
    "--cluster", metavar="NAME", shell_complete=complete.clusters, help="Listen to this cluster alone."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="COUNT", help="End after so many changes.")
@call_options("How long it may take until a cluster serves the watch (15s).")
@output_options("text", ("json", "yaml"))
def watch(
    prefix: str,
    after: str | None,
    *,
    initial: bool,
    cluster: str | None,
    limit: int | None,
    call: Call,
    out: Output,
) -> None:
    """Print each change of a key until it is interrupted.

    A connection that breaks is made anew, to another cluster if need be, and the watch goes on where it
    stood. With -o json each change is one line. With --initial a line "present" for each key that is there
    comes first, then one "progress" with the position of that state, then the changes behind it.
    """
    if initial and after is not None:
        raise CliError("--initial and --after exclude each other", "give one of them", code=WRONG)
    printer = _Printer(call, out)

    async def follow(client: AsyncClient) -> None:
        start = call.key(prefix)
        begin = await _present(client, start, cluster, printer) if initial else after
        count = 0
        try:
            async with client.watch(start, after=begin, cluster=cluster) as changes:
                async for event in changes:
                    printer.change(event)
                    count += 1
                    if count == limit:
                        return
        except (Compacted, Diverged) as error:
            raise CliError(error.message, "begin anew with --initial", code=Exit.POSITION_GONE) from None
        except TooStale as error:
            hint = "wait until that cluster has got so far, or begin anew with --initial"
            raise CliError(error.message, hint, code=Exit.REFUSED) from None

    call.run(follow)


class _Printer:
    def __init__(self, call: Call, out: Output) -> None:
        self._call = call
        self._out = out

    def present(self, item: Item, cluster: str) -> None:
        """Print a key that is there."""
        if self._out.own:
            click.echo(_line("present", self._call.shown(item.key), item.position, item.value))
        else:
            self._out.event({"event": "present", **item_fields(item), "cluster": cluster})

    def progress(self, position: Position) -> None:
        """Print how far all of it has come."""
        if self._out.own:
            click.echo(f"{position} progress")
        else:
            self._out.event({"event": "progress", "position": str(position)})

    def change(self, event: Event) -> None:
        """Print a change."""
        if self._out.own:
            click.echo(_line(event.kind, self._call.shown(event.key), event.position, event.value))
            return
        plain: dict[str, Any] = {"event": event.kind, **key_fields(event.key)}
        if event.value is not None:
            plain |= value_fields(event.value)
        plain |= {"position": str(event.position), "stamp": event.stamp, "origin": event.origin}
        self._out.event(plain | {"cluster": event.cluster} | expiry_fields(event.expires))


async def _present(client: AsyncClient, prefix: bytes, cluster: str | None, printer: _Printer) -> Position:
    """Print what is there as of one moment; return its position."""
    position = None
    async with aclosing(client.pages(prefix, page_size=1000, cluster=cluster)) as pages:
        async for page in pages:
            position = page.position
            for item in page.items:
                printer.present(item, page.cluster)
    assert position is not None
    printer.progress(position)
    return position


def _line(what: str, key: str, position: Position, value: bytes | None) -> str:
    head = f"{position} {what} {key}"
    if value is None:
        return head
    text = text_of(value)
    if text is None or not text.isprintable() or len(text) > _SHORT:
        return f"{head} ({len(value)} bytes)"
    return f"{head} {text}"
