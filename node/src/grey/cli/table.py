# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables in a frame, as the document draws the federation's status. Pure: text in, text out."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import msgspec
from rich.cells import cell_len, set_cell_size

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHORTEST_NAME = 8


class Signs(msgspec.Struct, frozen=True):
    """What lines and marks are drawn with."""

    across: str
    down: str
    corners: str
    on: str
    off: str
    cut: str


UNICODE = Signs(across="─", down="│", corners="┌┐├┬┤┼┴└┘", on="●", off="○", cut="…")
ASCII = Signs(across="-", down="|", corners="+" * 9, on="*", off="o", cut="...")


def signs_for(encoding: str | None) -> Signs:
    """Return the signs that a stream of this encoding can show."""
    try:
        "".join(str(part) for part in msgspec.structs.astuple(UNICODE)).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


class Column(msgspec.Struct, frozen=True):
    """A heading, and how many cells wide the column is where there is room."""

    heading: str
    width: int


def draw(
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    signs: Signs,
    width: int | None = None,
) -> list[str]:
    """Return the lines of a table that is at most ``width`` cells wide (None: as wide as it likes).

    Where there is no room, first the spare room goes, then the first column is cut, then the last columns go.
    """
    widths = _fit(columns, rows, width)
    top_left, top_right, left, tee, right, cross, bottom, low_left, low_right = tuple(signs.corners)
    bars = [signs.across * (each + 2) for each in widths]

    def line(cells: Sequence[str]) -> str:
        shown = [f" {_cell(cell, each, signs)} " for cell, each in zip(cells, widths, strict=False)]
        return signs.down + signs.down.join(shown) + signs.down

    inner = sum(len(bar) for bar in bars) + len(bars) - 1
    heading = _cut(title, inner, signs)
    return [
        top_left + signs.across * inner + top_right,
        signs.down + heading.center(inner) + signs.down,
        left + tee.join(bars) + right,
        line([column.heading for column in columns]),
        left + cross.join(bars) + right,
        *(line(row) for row in rows),
        low_left + bottom.join(bars) + low_right,
    ]


def below(text: str, width: int | None) -> list[str]:
    """Return a sentence below a table, in lines of at most ``width`` characters."""
    return [text] if width is None else textwrap.wrap(text, max(width, 10))


def _fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[int]:
    needed = [
        max([cell_len(column.heading), *(cell_len(row[index]) for row in rows)])
        for index, column in enumerate(columns)
    ]
    roomy = [max(need, column.width) for need, column in zip(needed, columns, strict=True)]
    if width is None or _total(roomy) <= width:
        return roomy
    while _total(needed) - width > needed[0] - _SHORTEST_NAME and len(needed) > 2:
        needed.pop()
    for index in range(len(needed)):
        needed[index] = max(1, needed[index] - max(0, _total(needed) - width))
    return needed


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 3 * len(widths) + 1


def _cell(text: str, width: int, signs: Signs) -> str:
    return set_cell_size(_cut(text, width, signs), width)


def _cut(text: str, width: int, signs: Signs) -> str:
    if cell_len(text) <= width:
        return text
    kept = max(0, width - len(signs.cut))
    return set_cell_size(text, kept) + signs.cut[: width - kept]
