# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl kv batch``: many writes as one, from a file or a pipe."""

from __future__ import annotations

import base64
import binascii
import json
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click

from grey.cli.errors import WRONG, CliError
from grey.cli.keytext import key_fields
from grey.cli.kv_call import Call, call_options
from grey.cli.output import output_options
from grey.cli.teach import Command, Exit, exits
from grey.client import Delete, Put
from grey.client.keys import from_text
from grey.config.errors import BadValue
from grey.config.units import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grey.cli.output import Output

_KNOWN = {
    "put": {"op", "key", "key_text", "value_base64", "value_text", "ttl", "if_absent", "if_position"},
    "delete": {"op", "key", "key_text", "if_position"},
}


@click.command(
    cls=Command,
    short_help="Carry out many writes: all of them or none.",
    examples=[
        ("a line for each operation", "grey-ctl kv batch changes.ndjson"),
        (
            "from a pipe",
            'echo \'{"op": "delete", "key": "user:123"}\' | grey-ctl kv batch -',
        ),
    ],
    exits=exits(Exit.FAILED, Exit.WRONG, Exit.REFUSED, Exit.NO_ANSWER, Exit.CONDITION),
    then=["After exit code 4 repeat it with the --request-id that was printed: it happens once."],
)
@click.argument("file", type=click.File("rb"), help="A file of JSON; - is standard input.")
@click.option(
    "--request-id",
    metavar="ID",
    help="Repeat a batch whose outcome is unknown: give the id that was printed.",
)
@call_options()
@output_options("text")
def batch(file: IO[bytes], request_id: str | None, call: Call, out: Output) -> None:
    """Carry out the operations of FILE: all of them or none, on every cluster.

    FILE holds JSON, one operation per line, a list of them, or what POST /v1/batch takes. An operation
    has "op" (put or delete), "key" (with %XX) or "key_text", and for a put "value_text" or "value_base64".
    It may have "ttl" ("30s"), "if_absent" (true) and "if_position" ("1.42"). At most 100 on distinct keys.
    """
    operations = read_operations(file.read(), getattr(file, "name", "<stdin>"))
    done = call.run(lambda client: client.batch(operations, request_id=request_id))
    if out.own:
        for operation, result in zip(operations, done, strict=True):
            verb = "stored" if isinstance(operation, Put) else "deleted"
            click.echo(f"{verb} {call.shown(result.key)} at {result.position}")
        return
    out.show(
        [
            {**key_fields(result.key), "position": str(result.position), "stamp": result.stamp}
            for result in done
        ]
    )


def read_operations(data: bytes, name: str) -> list[Put | Delete]:
    """Read operations in any of the three forms. Raises CliError (exit 2) that says which one is wrong."""
    found = [_operation(plain, f"{name}: {where}") for where, plain in _plain(data, name)]
    if not found:
        raise CliError(f"{name}: it holds no operation", "see grey-ctl kv batch --help", code=WRONG)
    return found


def _plain(data: bytes, name: str) -> Iterator[tuple[str, Any]]:
    try:
        whole = json.loads(data)
    except ValueError:
        # Not one JSON value; a value per line then.
        for number, line in enumerate(data.splitlines(), start=1):
            if line.strip():
                yield f"line {number}", _json(line, f"{name}: line {number}")
        return
    if isinstance(whole, dict) and "operations" in whole:
        whole = whole["operations"]
    for number, plain in enumerate(whole if isinstance(whole, list) else [whole], start=1):
        yield f"operation {number}", plain


def _json(line: bytes, where: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        _refuse(where, f"wanted JSON, found {error}")


def _operation(plain: Any, where: str) -> Put | Delete:
    if not isinstance(plain, dict) or plain.get("op") not in _KNOWN:
        _refuse(where, 'wanted an object with "op": "put" or "delete"')
    unknown = sorted(plain.keys() - _KNOWN[plain["op"]])
    if unknown:
        known = ", ".join(sorted(_KNOWN[plain["op"]]))
        _refuse(where, f"a {plain['op']} has no {', '.join(unknown)}", f"it may have {known}")
    try:
        key = _one(plain, "key", from_text)
        at = _text(plain, "if_position")
        if plain["op"] == "delete":
            return Delete(key, if_position=at)
        if_absent = plain.get("if_absent", False)
        if not isinstance(if_absent, bool):
            _refuse(where, f'wanted true or false as "if_absent", found {if_absent!r}')
        ttl = _text(plain, "ttl")
        return Put(
            key,
            _one(plain, "value", lambda text: base64.b64decode(text, validate=True)),
            ttl=None if ttl is None else duration(ttl),
            if_absent=if_absent,
            if_position=at,
        )
    except (BadValue, binascii.Error, ValueError) as error:
        _refuse(where, str(error))


def _one(plain: dict[str, Any], name: str, read: Any) -> bytes:
    """Return a key or value, which is given in its exact form or as text."""
    exact = "key" if name == "key" else f"{name}_base64"
    given = {form: text for form in (exact, f"{name}_text") if (text := _text(plain, form)) is not None}
    if exact in given:
        data: bytes = read(given[exact])
    elif given:
        data = given[f"{name}_text"].encode()
    else:
        raise ValueError(f'wanted "{exact}" or "{name}_text", found neither')
    if len(given) == 2 and data != given[f"{name}_text"].encode():
        raise ValueError(f'"{exact}" and "{name}_text" say different things')
    return data


def _text(plain: dict[str, Any], name: str) -> str | None:
    value = plain.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f'wanted a text as "{name}", found {json.dumps(value)}')
    return value


def _refuse(where: str, message: str, hint: str = "see grey-ctl kv batch --help") -> NoReturn:
    raise CliError(f"{where}: {message}", hint, code=WRONG)
