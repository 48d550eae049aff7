# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl kv``: keys and values from the command line."""

from __future__ import annotations

import asyncio
import base64
import sys
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from grey.cli.context import Duration, Target, find, target_options
from grey.cli.errors import FAILED, WRONG, CliError, failure
from grey.cli.output import chosen, output_options
from grey.client import Consistency, GreyError
from grey.client.keys import from_text, to_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from grey.client import AsyncClient, Item

F = TypeVar("F", bound="Callable[..., Any]")
T = TypeVar("T")


def _call_options(command: F) -> F:
    for option in (
        click.option(
            "--key-encoding",
            type=click.Choice(["utf8", "percent"]),
            default="utf8",
            help="percent: % and all but printable ASCII stand as %XX, so that any key can be written.",
        ),
        click.option(
            "--timeout", type=Duration(), default=15.0, help="How long the whole command may take (15s)."
        ),
    ):
        command = option(command)
    return target_options(command)


_request_id = click.option(
    "--request-id",
    metavar="ID",
    help="Repeat a write whose outcome is unknown: give the id that was printed.",
)


@click.group()
def kv() -> None:
    """Read and write keys."""


@kv.command()
@click.argument("key")
@click.argument("value", required=False)
@click.option("--file", type=click.File("rb"), help="Read the value from a file; - is standard input.")
@_request_id
@_call_options
@output_options("text")
def put(
    key: str,
    value: str | None,
    file: IO[bytes] | None,
    request_id: str | None,
    key_encoding: str,
    timeout: float,
    config: str | None,
    federation: str | None,
    output: str | None,
    query: str | None,
) -> None:
    """Set KEY to VALUE, at the primary. A VALUE of - is read from standard input.

    \b
    Examples:
      grey-ctl kv put user:123 '{"name": "Ada"}'
      grey-ctl kv put backup/today --file dump.bin
    """
    wanted = chosen(output, query)
    stored, data = _key(key, key_encoding), _value(value, file)
    done = _run(
        find(config, federation), timeout, lambda client: client.put(stored, data, request_id=request_id)
    )
    if wanted is not None:
        wanted.show({**_key_fields(stored), "position": str(done.position), "stamp": done.stamp})
    else:
        click.echo(f"stored {_shown(stored, key_encoding)} at {done.position}")


@kv.command()
@click.argument("key")
@click.option(
    "--consistency", type=click.Choice(["eventual", "bounded", "strong"]), help="How fresh (eventual)."
)
@click.option("--max-staleness", type=Duration(), help="How old a bounded read may be, for example 5s.")
@click.option("--cluster", metavar="NAME", help="Ask this cluster alone.")
@_call_options
@output_options("text")
def get(
    key: str,
    consistency: str | None,
    max_staleness: float | None,
    cluster: str | None,
    key_encoding: str,
    timeout: float,
    config: str | None,
    federation: str | None,
    output: str | None,
    query: str | None,
) -> None:
    """Print the value of KEY as it is. Exit code 1 when the key does not exist.

    \b
    Examples:
      grey-ctl kv get user:123 --consistency strong
      grey-ctl kv get user:123 --cluster gcp-west -o json
      grey-ctl kv get backup/today > dump.bin
    """
    wanted = chosen(output, query)
    stored, level = _key(key, key_encoding), _consistency(consistency, max_staleness)
    found = _run(
        find(config, federation),
        timeout,
        lambda client: client.get(stored, consistency=level, cluster=cluster),
    )
    if found is None:
        raise CliError(
            f"the key {_shown(stored, key_encoding)} does not exist",
            "" if level == Consistency.STRONG else "if a replica answered, --consistency strong may find it",
            code=FAILED,
        )
    if wanted is not None:
        wanted.show(
            {
                **_key_fields(stored),
                **_value_fields(found.value),
                "position": str(found.position),
                "stamp": found.stamp,
                "origin": found.origin,
                "cluster": found.cluster,
                "lag_seconds": found.lag_seconds,
            }
        )
        return
    sys.stdout.buffer.write(found.value)
    if sys.stdout.isatty() and not found.value.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


@kv.command()
@click.argument("key")
@_request_id
@_call_options
@output_options("text")
def delete(
    key: str,
    request_id: str | None,
    key_encoding: str,
    timeout: float,
    config: str | None,
    federation: str | None,
    output: str | None,
    query: str | None,
) -> None:
    """Remove KEY. It is no fault when it does not exist.

    \b
    Example:
      grey-ctl kv delete user:123
    """
    wanted = chosen(output, query)
    stored = _key(key, key_encoding)
    done = _run(
        find(config, federation), timeout, lambda client: client.delete(stored, request_id=request_id)
    )
    if wanted is not None:
        position = None if done.position is None else str(done.position)
        wanted.show(
            {**_key_fields(stored), "existed": done.existed, "position": position, "stamp": done.stamp}
        )
    elif done.existed:
        click.echo(f"deleted {_shown(stored, key_encoding)} at {done.position}")
    else:
        click.echo(f"{_shown(stored, key_encoding)} did not exist")


@kv.command(name="list")
@click.option("--prefix", default="", help="Only keys that begin so.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many keys.")
@click.option("--cluster", metavar="NAME", help="Ask this cluster alone.")
@_call_options
@output_options("text")
def list_keys(
    prefix: str,
    limit: int | None,
    cluster: str | None,
    key_encoding: str,
    timeout: float,
    config: str | None,
    federation: str | None,
    output: str | None,
    query: str | None,
) -> None:
    """Print the keys, one per line, in the order of their bytes; -o json shows the values too.

    A key with a % or with what cannot be printed here is shown with %XX, as
    --key-encoding percent shows and takes it.

    \b
    Examples:
      grey-ctl kv list --prefix user:
      grey-ctl kv list --key-encoding percent --limit 20
    """
    wanted = chosen(output, query)
    start = _key(prefix, key_encoding)

    async def collect(client: AsyncClient) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        size = min(limit or 1000, 1000)
        count = 0
        async for item in client.list(start, values=wanted is not None, page_size=size, cluster=cluster):
            if wanted is None:
                click.echo(_shown(item.key, key_encoding))
            else:
                found.append(_item_fields(item))
            count += 1
            if count == limit:
                break
        return found

    found = _run(find(config, federation), timeout, collect)
    if wanted is not None:
        wanted.show(found)


def _run(target: Target, timeout_seconds: float, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    async def call() -> T:
        async with target.client(timeout_seconds) as client:
            return await work(client)

    try:
        return asyncio.run(call())
    except GreyError as error:
        raise failure(error) from None


def _key(text: str, encoding: str) -> bytes:
    if encoding == "utf8":
        # Bytes that are not UTF-8 come from the shell as surrogates; they are refused with a hint.
        try:
            return text.encode()
        except UnicodeEncodeError:
            raise CliError(
                "the key is not UTF-8", "write it with %XX and --key-encoding percent", code=WRONG
            ) from None
    try:
        return from_text(text)
    except ValueError as error:
        raise CliError(
            str(error), "give the key without --key-encoding percent, or escape it", code=WRONG
        ) from None


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


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _is_plain(key: bytes) -> bool:
    """Say whether a key can be printed as it is; with a % it would look like the percent form."""
    try:
        text = key.decode()
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeError:
        return False
    return text.isprintable() and "%" not in text


def _shown(key: bytes, encoding: str) -> str:
    return key.decode() if encoding == "utf8" and _is_plain(key) else to_text(key)


def _key_fields(key: bytes) -> dict[str, str | None]:
    return {"key": to_text(key), "key_text": _text(key)}


def _value_fields(value: bytes) -> dict[str, str | None]:
    return {"value_base64": base64.b64encode(value).decode(), "value_text": _text(value)}


def _item_fields(item: Item) -> dict[str, Any]:
    fields = {**_key_fields(item.key), "position": str(item.position), "stamp": item.stamp}
    return fields if item.value is None else {**fields, **_value_fields(item.value)}
