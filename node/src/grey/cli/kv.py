# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl kv``: keys and values from the command line."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any

import click

from grey.cli import complete
from grey.cli.errors import FAILED, WRONG, CliError
from grey.cli.keytext import expiry_fields, item_fields, key_fields, value_fields
from grey.cli.kv_batch import batch
from grey.cli.kv_call import Call, call_options
from grey.cli.kv_watch import watch
from grey.cli.output import output_options
from grey.cli.target import Duration
from grey.cli.teach import Command, Exit, Group, exits
from grey.client import Consistency, Missing

if TYPE_CHECKING:
    from grey.cli.output import Output
    from grey.client import AsyncClient

_WRITE_EXITS = exits(Exit.FAILED, Exit.WRONG, Exit.REFUSED, Exit.NO_ANSWER, Exit.CONDITION)
_READ_EXITS = (Exit.WRONG, Exit.REFUSED, Exit.NO_ANSWER)

_key = click.argument(
    "key", shell_complete=complete.keys, help="A text; any bytes as %XX with --key-encoding percent."
)
_cluster = click.option(
    "--cluster", metavar="NAME", shell_complete=complete.clusters, help="Ask this cluster alone."
)
_request_id = click.option(
    "--request-id",
    metavar="ID",
    help="Repeat a write whose outcome is unknown: give the id that was printed.",
)
_if_position = click.option(
    "--if-position",
    metavar="POSITION",
    help="Only if the key is still at this position (kv get -o json).",
)


@click.group(
    cls=Group,
    sections={"One key": ["put", "get", "delete"], "Many keys": ["list", "batch", "watch"]},
    examples=[
        ("write, at the primary", "grey-ctl kv put user:123 Ada"),
        ("read, from another cluster", "grey-ctl kv get user:123 --cluster gcp-west"),
        ("follow what others write", "grey-ctl kv watch --prefix user:"),
    ],
)
def kv() -> None:
    """Read, write and watch keys."""


@kv.command(
    cls=Command,
    examples=[
        ("a text", 'grey-ctl kv put user:123 \'{"name": "Ada"}\''),
        ("a file", "grey-ctl kv put backup/today --file dump.bin"),
        (
            "take a lock for half a minute; exit code 5: somebody has it",
            "grey-ctl kv put lock:job $HOSTNAME --if-absent --ttl 30s",
        ),
        (
            "change what was read, unless it changed meanwhile",
            "grey-ctl kv put user:123 Grace --if-position 1.42",
        ),
    ],
    exits=_WRITE_EXITS,
    then=[
        "After exit code 4 repeat it with the --request-id that was printed: it happens once.",
        "See that it reached the others: grey-ctl kv get KEY --cluster NAME.",
    ],
)
@_key
@click.argument("value", required=False, help="A text; - is standard input.")
@click.option("--file", type=click.File("rb"), help="Read the value from a file; - is standard input.")
@click.option("--ttl", type=Duration(), help="Delete the key after this time, 1s or more.")
@click.option("--if-absent", is_flag=True, help="Only if the key does not exist.")
@_if_position
@_request_id
@call_options()
@output_options("text")
def put(
    key: str,
    value: str | None,
    file: IO[bytes] | None,
    *,
    ttl: float | None,
    if_absent: bool,
    if_position: str | None,
    request_id: str | None,
    call: Call,
    out: Output,
) -> None:
    """Set KEY to VALUE, at the primary."""
    stored, data = call.key(key), _value(value, file)
    done = call.run(
        lambda client: client.put(
            stored, data, ttl=ttl, if_absent=if_absent, if_position=if_position, request_id=request_id
        )
    )
    if out.own:
        click.echo(f"stored {call.shown(stored)} at {done.position}")
    else:
        out.show({**key_fields(stored), "position": str(done.position), "stamp": done.stamp})


@kv.command(
    cls=Command,
    examples=[
        ("every write acknowledged before is seen", "grey-ctl kv get user:123 --consistency strong"),
        (
            "as one cluster has it, with position and lag",
            "grey-ctl kv get user:123 --cluster gcp-west -o json",
        ),
        ("byte for byte into a file", "grey-ctl kv get backup/today > dump.bin"),
    ],
    exits=exits(*_READ_EXITS, c1="the key does not exist, or the read failed"),
    then=["A replica may lag behind: --consistency strong asks the primary."],
)
@_key
@click.option(
    "--consistency", type=click.Choice(["eventual", "bounded", "strong"]), help="How fresh (eventual)."
)
@click.option("--max-staleness", type=Duration(), help="How old a bounded read may be, for example 5s.")
@_cluster
@call_options()
@output_options("text")
def get(
    key: str,
    consistency: str | None,
    max_staleness: float | None,
    cluster: str | None,
    call: Call,
    out: Output,
) -> None:
    """Print the value of KEY as it is."""
    stored, level = call.key(key), _consistency(consistency, max_staleness)
    found = call.run(lambda client: client.look(stored, consistency=level, cluster=cluster))
    if isinstance(found, Missing):
        late = found.lag_seconds is not None
        raise CliError(
            f"the key {call.shown(stored)} does not exist",
            f"{found.cluster} is a replica, --consistency strong asks the primary" if late else "",
            code=FAILED,
        )
    if not out.own:
        fields: dict[str, Any] = {
            **key_fields(stored),
            **value_fields(found.value),
            "position": str(found.position),
            "stamp": found.stamp,
            "origin": found.origin,
            "cluster": found.cluster,
            "lag_seconds": found.lag_seconds,
        }
        out.show(fields | expiry_fields(found.expires))
        return
    sys.stdout.buffer.write(found.value)
    if sys.stdout.isatty() and not found.value.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


@kv.command(
    cls=Command,
    examples=[
        ("whatever it is", "grey-ctl kv delete user:123"),
        ("only what was read", "grey-ctl kv delete user:123 --if-position 1.42"),
    ],
    exits=_WRITE_EXITS,
    then=["After exit code 4 repeat it with the --request-id that was printed."],
)
@_key
@_if_position
@_request_id
@call_options()
@output_options("text")
def delete(key: str, *, if_position: str | None, request_id: str | None, call: Call, out: Output) -> None:
    """Remove KEY. It is no fault when it does not exist."""
    stored = call.key(key)
    done = call.run(lambda client: client.delete(stored, if_position=if_position, request_id=request_id))
    if not out.own:
        position = None if done.position is None else str(done.position)
        out.show({**key_fields(stored), "existed": done.existed, "position": position, "stamp": done.stamp})
    elif done.existed:
        click.echo(f"deleted {call.shown(stored)} at {done.position}")
    else:
        click.echo(f"{call.shown(stored)} did not exist")


@kv.command(
    name="list",
    cls=Command,
    examples=[
        ("the keys, one per line", "grey-ctl kv list --prefix user:"),
        (
            "the first twenty, in a form that any key survives",
            "grey-ctl kv list --key-encoding percent --limit 20",
        ),
        (
            "all with their values, as one cluster has them",
            "grey-ctl kv list --all --cluster gcp-west -o json",
        ),
        ("how many there are", "grey-ctl kv list -o json --query 'length(@)'"),
    ],
    exits=exits(Exit.FAILED, *_READ_EXITS, Exit.POSITION_GONE),
    then=["See what changes from now on: grey-ctl kv watch."],
)
@click.option(
    "--prefix", metavar="TEXT", default="", shell_complete=complete.keys, help="Only keys that begin so."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="COUNT", help="Stop after so many keys.")
@click.option("--all", "everything", is_flag=True, help="All keys, page by page: so it is without --limit.")
@_cluster
@call_options("How long one page of up to 1,000 keys may take (15s).")
@output_options("text")
def list_keys(
    prefix: str,
    limit: int | None,
    *,
    everything: bool,
    cluster: str | None,
    call: Call,
    out: Output,
) -> None:
    """Print the keys, in the order of their bytes.

    With -o json or yaml their values too. All pages show one state, that of the first, however long it
    takes. A key with a % or with what cannot be printed here is shown with %XX, as --key-encoding percent
    shows and takes it.
    """
    if everything and limit is not None:
        raise CliError("--all and --limit exclude each other", "give one of them", code=WRONG)
    start = call.key(prefix)
    listing = out.listing()

    async def walk(client: AsyncClient) -> None:
        count = 0
        size = min(limit or 1000, 1000)
        async for item in client.list(start, values=not out.own, page_size=size, cluster=cluster):
            if out.own:
                click.echo(call.shown(item.key))
            else:
                listing.add(item_fields(item))
            count += 1
            if count == limit:
                break

    call.run(walk)
    if not out.own:
        listing.end()


kv.add_command(batch)
kv.add_command(watch)


def _value(value: str | None, file: IO[bytes] | None) -> bytes:
    if (value is None) == (file is None):
        raise CliError(
            "a put needs one value",
            "give VALUE, - for standard input, or --file FILE, and only one",
            code=WRONG,
        )
    if file is not None:
        return file.read()
    if value == "-":
        return sys.stdin.buffer.read()
    # What the shell gave is stored byte for byte, also when it is not UTF-8.
    return (value or "").encode("utf-8", "surrogateescape")


def _consistency(mode: str | None, max_staleness: float | None) -> Consistency:
    if max_staleness is not None and mode in {None, "bounded"}:
        return Consistency.bounded(max_staleness)
    if mode == "bounded" or max_staleness is not None:
        raise CliError(
            "--consistency bounded and --max-staleness belong together",
            "for example --max-staleness 5s",
            code=WRONG,
        )
    return Consistency.STRONG if mode == "strong" else Consistency.EVENTUAL
