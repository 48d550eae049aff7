# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream that people read: how wide it is, what it can show, whether it has colours."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.text import Text

from grey.cli.table import Signs, signs_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Screen(msgspec.Struct, frozen=True):
    """Standard output. ``width`` is None when it is not a terminal: nothing is cut for a file or a pipe."""

    console: Console
    signs: Signs
    width: int | None

    @classmethod
    def standard(cls, *, colour: bool) -> Screen:
        """Return standard output as it is now."""
        console = Console(file=sys.stdout, highlight=False, color_system="auto" if colour else None)
        return cls(console, signs_for(sys.stdout.encoding), console.width if console.is_terminal else None)

    def print(self, lines: Sequence[str], styles: Mapping[str, str] | None = None) -> None:
        """Print lines as they are; on a terminal with colours, the words of ``styles`` in their style."""
        if self.console.color_system is None or self.console.no_color:
            click.echo("\n".join(lines))
            return
        for line in lines:
            text = Text(line)
            for word, style in (styles or {}).items():
                text.highlight_words([word], style)
            self.console.print(text, soft_wrap=True)
