# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream that people read: how wide it is, what it can show, whether it has colours."""

from __future__ import annotations

import io
import shutil
import sys
from typing import TYPE_CHECKING, Literal

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from grey.cli.table import ASCII, Signs, signs_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Colour = Literal["auto", "always", "never"]
COLOURS: tuple[Colour, ...] = ("auto", "always", "never")

_ROOM = 1_000_000


class Screen(msgspec.Struct, frozen=True):
    """Standard output. ``width`` is None when it is not a terminal: nothing is cut for a file or a pipe."""

    console: Console
    signs: Signs
    width: int | None

    @classmethod
    def standard(cls, colour: Colour = "auto") -> Screen:
        """Return standard output as it is now.

        ``auto`` has colours on a terminal only, and not where NO_COLOR is set or TERM is dumb.
        """
        console = Console(
            file=sys.stdout,
            highlight=False,
            color_system=None if colour == "never" else "standard" if colour == "always" else "auto",
            no_color=False if colour == "always" else None,
            force_terminal=sys.stdout.isatty(),
        )
        width = shutil.get_terminal_size((console.width, 25)).columns if console.is_terminal else None
        return cls(console, signs_for(sys.stdout.encoding), width)

    @property
    def coloured(self) -> bool:
        """Whether colours are to be written."""
        return self.console.color_system is not None and not self.console.no_color

    def print(self, lines: Sequence[str], styles: Mapping[str, str] | None = None) -> None:
        """Print lines as they are; where colours are written, the words of ``styles`` in their style."""
        if not self.coloured:
            click.echo("\n".join(lines))
            return
        for line in lines:
            text = Text(line)
            for word, style in (styles or {}).items():
                text.highlight_words([word], style)
            self._render(text)

    def table(
        self,
        headings: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        styles: Sequence[str | None] = (),
    ) -> None:
        """Print a table; on a terminal its cells are folded to the width. ``styles``: one for each row."""
        table = Table(
            box=box.ASCII if self.signs is ASCII else box.SQUARE,
            header_style="bold",
            show_edge=True,
        )
        for heading in headings:
            table.add_column(Text(heading), overflow="fold")
        for number, row in enumerate(rows):
            style = styles[number] if number < len(styles) else None
            table.add_row(*(Text(cell) for cell in row), style=style)
        self._render(table)

    def _render(self, content: Text | Table) -> None:
        out = io.StringIO()
        console = Console(
            file=out,
            highlight=False,
            color_system=self.console.color_system if self.coloured else None,  # type: ignore[arg-type]
            no_color=not self.coloured,
            force_terminal=self.coloured,
            width=self.width or _ROOM,
            legacy_windows=False,
        )
        console.print(content, soft_wrap=isinstance(content, Text))
        click.echo(out.getvalue(), nl=False, color=self.coloured)
