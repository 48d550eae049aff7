# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a file: where, what was wanted, what was found, and the next step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong. ``line`` counts from 1, 0 when none is known; ``key`` is dotted, or empty."""

    file: str
    line: int
    key: str
    message: str
    hint: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        what = f"{self.message}; {self.hint}" if self.hint else self.message
        return ": ".join(part for part in (place, self.key, what) if part)


class ConfigError(Exception):
    """A file is wrong; ``faults`` holds everything that was found, in the order of the file."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: fault.line)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class FormError(ConfigError):
    """The form of a file is wrong, so that the rules between its keys were not checked."""


class BadValue(ValueError):
    """A text is not in the form that was wanted."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


def quoted(value: object) -> str:
    """Return what was found, fit for a message: text in double quotes, long values cut."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f'"{shortened(value)}"'
        case list():
            return "a list"
        case _:
            return "a mapping"


def shortened(text: str) -> str:
    """Return at most 60 characters of a text."""
    return text if len(text) <= 60 else f"{text[:57]}..."
