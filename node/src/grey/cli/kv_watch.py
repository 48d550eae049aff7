# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl kv watch``: changes as they happen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from grey.cli import complete
from grey.cli.keytext import expiry_fields, key_fields, text_of, value_fields
from grey.cli.kv_call import Call, call_options
from grey.cli.output import output_options
from grey.cli.teach import Command, Exit, exits

if TYPE_CHECKING:
    from grey.cli.output import Output
    from grey.client import AsyncClient, Event

_SHORT = 60


@click.command(
    cls=Command,
    examples=[
        ("what changes from now on", "grey-ctl kv watch --prefix user:"),
        ("from where a listing or an earlier watch stood", "grey-ctl kv watch --after 1.42"),
        ("for another program, a line of JSON for each change", "grey-ctl kv watch -o json | jq .key_text"),
    ],
    exits=exits(Exit.WRONG, Exit.REFUSED, Exit.NO_ANSWER, Exit.POSITION_GONE, Exit.INTERRUPTED),
    then=["Go on later with --after and the last position that was printed: nothing is missed or doubled."],
)
@click.option("--prefix", default="", shell_complete=complete.keys, help="Only keys that begin so.")
@click.option("--after", metavar="POSITION", help="Changes after this position; without it from now on.")
@click.option("--limit", type=click.IntRange(min=1), metavar="COUNT", help="End after so many changes.")
@call_options("How long it may take until a cluster serves the watch (15s).")
@output_options("text", ("json", "yaml"))
def watch(prefix: str, after: str | None, limit: int | None, call: Call, out: Output) -> None:
    """Print each change of a key until it is interrupted.

    A connection that breaks is made anew, to another cluster if need be, and the watch goes on where it
    stood. With -o json each change is one line.
    """
    start = call.key(prefix)

    async def follow(client: AsyncClient) -> None:
        count = 0
        async with client.watch(start, after=after) as changes:
            async for event in changes:
                if out.own:
                    click.echo(_line(event, call.shown(event.key)))
                else:
                    out.event(fields(event))
                count += 1
                if count == limit:
                    return

    call.run(follow)


def fields(event: Event) -> dict[str, Any]:
    """Return what JSON says of a change."""
    plain: dict[str, Any] = {"event": event.kind, **key_fields(event.key)}
    if event.value is not None:
        plain |= value_fields(event.value)
    plain |= {"position": str(event.position), "stamp": event.stamp, "origin": event.origin}
    return plain | {"cluster": event.cluster} | expiry_fields(event.expires)


def _line(event: Event, key: str) -> str:
    head = f"{event.position} {event.kind} {key}"
    if event.value is None:
        return head
    text = text_of(event.value)
    if text is None or not text.isprintable() or len(text) > _SHORT:
        return f"{head} ({len(event.value)} bytes)"
    return f"{head} {text}"
