# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How grey-ctl fails: one line on standard error, and an exit code of docs/reference/commands.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grey.cli.teach import Exit
from grey.client import (
    BadRequest,
    Compacted,
    ConditionFailed,
    Diverged,
    Fenced,
    Forbidden,
    GreyError,
    NotPrimary,
    OutcomeUnknown,
    Overloaded,
    RateLimited,
    TooStale,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grey.config.errors import ConfigError

FAILED = Exit.FAILED
WRONG = Exit.WRONG
REFUSED = Exit.REFUSED
NO_ANSWER = Exit.NO_ANSWER
INTERRUPTED = Exit.INTERRUPTED
BROKEN_PIPE = Exit.BROKEN_PIPE


class CliError(Exception):
    """A failure to show: what, the next step, more lines below, and the exit code."""

    def __init__(self, message: str, hint: str = "", *, code: int = FAILED, more: Sequence[str] = ()) -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.code = code
        self.more = tuple(more)


def exit_code(error: GreyError) -> int:
    """Return the exit code that a failed call of the client stands for."""
    match error:
        case BadRequest():
            return WRONG
        case NotPrimary() | Fenced() | TooStale() | Forbidden():
            return REFUSED
        case Unavailable() | OutcomeUnknown() | Overloaded() | RateLimited():
            return NO_ANSWER
        case ConditionFailed():
            return Exit.CONDITION
        case Compacted() | Diverged():
            return Exit.POSITION_GONE
        case _:
            return FAILED


def failure(error: GreyError) -> CliError:
    """Return a failed call of the client in the words of the command line."""
    if isinstance(error, TooStale):
        # The API's hint speaks of its own parameters.
        where = "NAME of another cluster" if error.primary is None else error.primary.cluster
        hint = f"read with --cluster {where}, or allow more with --max-staleness"
        return CliError(error.message, hint, code=REFUSED)
    if isinstance(error, Compacted):
        return CliError(error.message, "run it again: it begins anew", code=Exit.POSITION_GONE)
    return CliError(str(error), code=exit_code(error))


def wrong_file(error: ConfigError) -> CliError:
    """Return a wrong file in the words of the command line: every fault is a line."""
    first, *more = [str(fault) for fault in error.faults]
    return CliError(first, code=WRONG, more=more)
