# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands print: JSON, YAML or a table through a query; else the command's own text or table."""

from __future__ import annotations

import codecs
import functools
import io
import json
import re
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click
import jmespath  # type: ignore[import-untyped]
from jmespath.exceptions import JMESPathError, ParseError  # type: ignore[import-untyped]

from grey.cli.errors import WRONG, CliError
from grey.cli.teach import Titled
from grey.cli.terminal import COLOURS, Colour, Screen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

F = TypeVar("F", bound="Callable[..., Any]")

_SECTION = "How to print"
_FORMS = ("json", "yaml", "table")


class Query:
    """A JMESPath expression; without one everything is shown."""

    def __init__(self, expression: str | None) -> None:
        """Raises CliError (exit 2) that says where the expression is wrong."""
        self._expression = expression
        try:
            self._compiled = None if expression is None else jmespath.compile(expression)
        except ParseError as error:
            at = error.lex_position
            reason = str(error).split("\n", 1)[0].split(": ", 1)[-1].rstrip(":")
            raise CliError(
                f"--query {expression!r} is wrong at character {at + 1}: {reason}",
                "see https://jmespath.org for the language",
                code=WRONG,
            ) from None
        except JMESPathError as error:
            raise self._wrong(error) from None

    def __bool__(self) -> bool:
        return self._compiled is not None

    def find(self, document: Any) -> Any:
        """Return the part of a document that is wanted. Raises CliError (exit 2)."""
        if self._compiled is None:
            return document
        try:
            # As -o json shows it: JMESPath finds nothing in a tuple.
            return self._compiled.search(json.loads(json.dumps(document)))
        except JMESPathError as error:
            raise self._wrong(error) from None

    def _wrong(self, error: JMESPathError) -> CliError:
        return CliError(
            f"--query {self._expression!r} cannot be carried out: {error}",
            "see https://jmespath.org for the language",
            code=WRONG,
        )


class Output:
    """How a command was told to print. ``form`` is text, json, yaml or table."""

    def __init__(self, form: str, query: Query, colour: Colour, *, own: bool) -> None:
        """``own``: the command's own text or table is wanted, not its data."""
        self.form = form
        self.own = own
        self._query = query
        self._colour = colour

    @property
    def queried(self) -> bool:
        """Whether a part of the data was asked for."""
        return bool(self._query)

    @functools.cached_property
    def screen(self) -> Screen:
        """Standard output for people."""
        return Screen.standard(self._colour)

    def show(self, document: Any) -> None:
        """Print data, or what the query finds in it."""
        document = self._query.find(document)
        if self.form == "yaml":
            click.echo(_yaml(document), nl=False)
        elif self.form == "table":
            headings, rows = tabulated(document)
            self.screen.table(headings, rows)
        else:
            click.echo(_json(document, indent=2))

    def event(self, document: Any) -> None:
        """Print one of many documents at once: a line of JSON, or a YAML document."""
        document = self._query.find(document)
        click.echo(f"---\n{_yaml(document)}" if self.form == "yaml" else f"{_json(document)}\n", nl=False)
        sys.stdout.flush()

    def listing(self) -> Listing:
        """Return what prints the items of a list as they come."""
        return Listing(self, streamed=not self._query and self.form in {"json", "yaml"})


class Listing:
    """A list that is printed item by item where that is possible; its end must be told."""

    def __init__(self, output: Output, *, streamed: bool) -> None:
        self._output = output
        self._streamed = streamed
        self._items: list[Any] = []
        self._count = 0

    def add(self, item: Any) -> None:
        """Print an item, or keep it for the end."""
        if not self._streamed:
            self._items.append(item)
        elif self._output.form == "yaml":
            click.echo(_yaml([item]), nl=False)
        else:
            text = _json([item], indent=2).removeprefix("[").removesuffix("\n]")
            click.echo(f"{',' if self._count else '['}{text}", nl=False)
        self._count += 1

    def end(self) -> None:
        """Print what is still to print."""
        if not self._streamed or not self._count:
            self._output.show(self._items)
        elif self._output.form == "json":
            click.echo("\n]")


def output_options(own: str, forms: Sequence[str] = _FORMS) -> Callable[[F], F]:
    """Add ``-o``, ``--query`` and the colours to a command, which gets them as ``out`` (Output).

    ``own`` names the form without ``-o``: ``text``, or ``table`` where the command draws one itself.
    """
    choices = list(dict.fromkeys([own, *forms]))

    def add(command: F) -> F:
        @functools.wraps(command)
        def run(
            *args: Any,
            output: str | None,
            query: str | None,
            color: Colour | None,
            no_color: bool,
            **more: Any,
        ) -> Any:
            return command(*args, out=_chosen(own, output, query, color, no_color=no_color), **more)

        options = (
            click.option(
                "-o",
                "--output",
                cls=Titled,
                section=_SECTION,
                type=click.Choice(choices),
                help=f"The form; {own} without this option.",
            ),
            click.option(
                "--query",
                cls=Titled,
                section=_SECTION,
                metavar="JMESPATH",
                help="Print this part of the data (jmespath.org); JSON without -o.",
            ),
        )
        decorated: Any = color_options(run)
        for option in reversed(options):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]

    return add


def color_options(command: F) -> F:
    """Add ``--color`` and ``--no-color`` to a command, as they are."""
    for option in (
        click.option(
            "--no-color", cls=Titled, section=_SECTION, is_flag=True, help="The same as --color never."
        ),
        click.option(
            "--color",
            cls=Titled,
            section=_SECTION,
            type=click.Choice(COLOURS),
            help="auto: on a terminal, unless NO_COLOR is set.",
        ),
    ):
        command = option(command)
    return command


def tabulated(document: Any) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows for any data: a row for each item of a list, or for each key."""
    if isinstance(document, dict):
        return ["key", "value"], [[_cell(key), _cell(value)] for key, value in document.items()]
    items = document if isinstance(document, list) else [document]
    if not items or not all(isinstance(item, dict) for item in items):
        return ["value"], [[_cell(item)] for item in items]
    headings = list(dict.fromkeys(key for item in items for key in item))
    rows = [[_cell(item.get(key)) for key in headings] for item in items]
    return [_cell(key) for key in headings], rows


def _chosen(
    own: str, output: str | None, query: str | None, color: Colour | None, *, no_color: bool
) -> Output:
    if query is not None and output == "text":
        raise CliError("--query works on data", "leave out -o text", code=WRONG)
    if no_color and color not in {None, "never"}:
        raise CliError(f"--no-color and --color {color} exclude each other", "give one of them", code=WRONG)
    above: Mapping[str, Any] = click.get_current_context().find_object(dict) or {}
    colour: Colour = "never" if no_color else color or above.get("color") or "auto"
    form = output or (own if query is None else "json")
    return Output(form, Query(query), colour, own=form == own and query is None)


def _json(document: Any, *, indent: int | None = None) -> str:
    """Return JSON: all text as it is on a UTF-8 stream, but for controls and what UTF-8 cannot hold."""
    if not _is_utf8():
        return json.dumps(document, indent=indent)
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _yaml(document: Any) -> str:
    # Imported here: most calls want no YAML, and completion is waited for at every key stroke.
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import SafeRepresenter

    class Representer(SafeRepresenter):
        """Escapes what a plain or single-quoted scalar would fold into a blank, a break for example."""

    def text(representer: Any, data: str) -> Any:
        style = None if data.isprintable() else '"'
        return representer.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Representer.add_representer(str, text)
    writer: Any = YAML(typ="safe", pure=True)
    writer.Representer = Representer
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False
    writer.allow_unicode = _is_utf8()
    writer.width = 4096
    out = io.StringIO()
    writer.dump(document, out)
    return out.getvalue().removesuffix("...\n")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, str):
        return _printable(_json(value))
    return _printable(value)


def _printable(text: str) -> str:
    """Return text that moves no cursor and that the stream can hold; the rest is escaped as in JSON."""
    plain = text.isprintable() and (_is_utf8() or text.isascii())
    return text if plain else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    plain = char.isprintable() and (_is_utf8() or char.isascii())
    return char if plain else json.dumps(char)[1:-1] if ord(char) != 0x7F else "\\u007f"


def _is_utf8() -> bool:
    return codecs.lookup(sys.stdout.encoding or "ascii").name == "utf-8"
