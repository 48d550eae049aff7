# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands print: JSON through a query, text, tables that fit the terminal."""

from __future__ import annotations

import codecs
import json
import re
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click
import jmespath  # type: ignore[import-untyped]
from jmespath.exceptions import JMESPathError, ParseError  # type: ignore[import-untyped]

from grey.cli.errors import WRONG, CliError

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


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

    def show(self, document: Any) -> None:
        """Print what the query finds in a document, as JSON."""
        if self._compiled is not None:
            try:
                document = self._compiled.search(document)
            except JMESPathError as error:
                raise self._wrong(error) from None
        click.echo(_json(document))

    def _wrong(self, error: JMESPathError) -> CliError:
        return CliError(
            f"--query {self._expression!r} cannot be carried out: {error}",
            "see https://jmespath.org for the language",
            code=WRONG,
        )


def _json(document: Any) -> str:
    """Return JSON: all text as it is on a UTF-8 stream, but for controls and what UTF-8 cannot hold."""
    if codecs.lookup(sys.stdout.encoding or "ascii").name != "utf-8":
        return json.dumps(document, indent=2)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def output_options(default: str) -> Callable[[F], F]:
    """Add ``-o`` (``default`` or json) and ``--query`` to a command; see ``chosen``."""

    def add(command: F) -> F:
        for option in (
            click.option("--query", metavar="JMESPATH", help="Print this part of the JSON output."),
            click.option(
                "-o",
                "--output",
                type=click.Choice([default, "json"]),
                help=f"How to print; {default} without this option and without --query.",
            ),
        ):
            command = option(command)
        return command

    return add


def chosen(output: str | None, query: str | None) -> Query | None:
    """Return the query when the output is to be JSON, None for text or a table. Raises CliError (exit 2)."""
    if query is not None and output not in {None, "json"}:
        raise CliError("--query works on JSON", f"leave out -o {output}", code=WRONG)
    return Query(query) if output == "json" or query is not None else None
