# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Help that teaches: what a command does, how it is used, what its exit codes mean, what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH = 80

Example = tuple[str, str]
"""What for, and the command line."""


class Exit:
    """The exit codes, as every command's help and docs/reference/commands.md say them."""

    DONE = 0
    FAILED = 1
    WRONG = 2
    REFUSED = 3
    NO_ANSWER = 4
    CONDITION = 5
    POSITION_GONE = 6
    INTERRUPTED = 130
    BROKEN_PIPE = 141


EXITS: Mapping[int, str] = {
    Exit.DONE: "done",
    Exit.FAILED: "the operation failed",
    Exit.WRONG: "wrong usage, or a wrong file",
    Exit.REFUSED: "refused by the federation (not primary, fenced, too stale)",
    Exit.NO_ANSWER: "nobody answered in time; a write may have happened",
    Exit.CONDITION: "the condition of a write did not hold: nothing was written",
    Exit.POSITION_GONE: "the position of a watch or listing is not there: list anew",
    Exit.INTERRUPTED: "interrupted",
    Exit.BROKEN_PIPE: "the reader of the output went away",
}

SECTIONS = ("Options", "Which federation", "How to print")


class Titled(click.Option):
    """An option that the help shows in a section of its own."""

    def __init__(self, *args: Any, section: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.section = section


class _Taught(click.Command):
    examples: Sequence[Example] = ()
    exits: Mapping[int, str] = {}
    then: Sequence[str] = ()

    def __init__(
        self,
        *args: Any,
        examples: Sequence[Example] = (),
        exits: Mapping[int, str] | None = None,
        then: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        """``exits``: exit codes with a meaning of their own here. ``then``: what to do next, in sentences."""
        super().__init__(*args, **settings)
        self.examples = examples
        self.exits = exits or {}
        self.then = then

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the command does, and examples."""
        super().format_help_text(ctx, formatter)
        if not self.examples:
            return
        with formatter.section("Examples"):
            for what_for, line in self.examples:
                for each in (f"# {what_for}", line):
                    formatter.write(f"{'':{formatter.current_indent}}{each}\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those that many commands share in sections below the command's own."""
        for title in SECTIONS:
            records = [
                record
                for param in self.get_params(ctx)
                if _section(param) == title and (record := param.get_help_record(ctx)) is not None
            ]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the exit codes that can be met here, and the next step."""
        if self.exits:
            with formatter.section("Exit codes"):
                formatter.write_dl([(str(code), text) for code, text in sorted(self.exits.items())])
        if self.then:
            with formatter.section("Then"):
                for sentence in self.then:
                    formatter.write_text(sentence)


def _section(param: click.Parameter) -> str:
    # click shows arguments itself, in a section before these.
    return "" if isinstance(param, click.Argument) else getattr(param, "section", SECTIONS[0])


class Command(_Taught):
    """A command whose help teaches."""


class Group(_Taught, click.Group):
    """A group whose help shows its commands in sections. ``sections``: title to names, in order."""

    command_class = Command

    def __init__(
        self, *args: Any, sections: Mapping[str, Sequence[str]] | None = None, **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self.sections = sections or {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands before the options: they are what is looked for."""
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in their sections."""
        for title, names in (self.sections or {"Commands": self.list_commands(ctx)}).items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            longest = max(len(name) for name in names)
            limit = formatter.width - 6 - longest
            with formatter.section(title):
                formatter.write_dl(
                    [(name, found.get_short_help_str(limit)) for name, found in commands if found is not None]
                )


def exits(*codes: int, **own: str) -> dict[int, str]:
    """Return the common words of some exit codes; ``own`` (``c1="..."``) are words that hold here alone."""
    return {
        **{code: EXITS[code] for code in (Exit.DONE, *codes)},
        **{int(name[1:]): text for name, text in own.items()},
    }
