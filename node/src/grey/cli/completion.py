# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl completion``: scripts that complete grey-ctl's command line in bash, zsh and fish.

zsh and fish use click's own; bash splits words at ``:``, which keys are full of, so it gets a script and a
reader of the line of our own.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, ClassVar

import click
import msgspec
from click.shell_completion import (
    BashComplete,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

from grey.cli.teach import Command, Exit, exits

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

PROGRAM = "grey-ctl"
VARIABLE = "_GREY_CTL_COMPLETE"

_BASH = """\
%(complete_func)s() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "${1/#\\~/$HOME}" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null ||
    complete -F %(complete_func)s %(prog_name)s
"""

_SPECIAL = re.compile(r"""([\s!"#$&'()*;<>?\[\\\]^`{|}]|^~)""")
_ESCAPED = r"\\\1"


class Line(msgspec.Struct, frozen=True):
    """A command line up to the cursor, as bash reads it. ``quote`` is the quote that is open, if any.

    ``kept`` is the part of the last word before its last word break: bash leaves that on the line.
    """

    words: tuple[str, ...]
    last: str
    kept: str
    quote: str


def read_line(line: str, breaks: str) -> Line:
    """Split a line into words; the last one is the one at the cursor, and may be empty."""
    words: list[str] = []
    word: str | None = None
    quote = kept = ""
    characters = iter(line)
    for char in characters:
        if quote:
            if char == quote:
                quote = ""
            elif char == "\\" and quote == '"':
                word = f"{word or ''}{next(characters, '')}"
            else:
                word = f"{word or ''}{char}"
        elif char in "'\"":
            quote, word = char, word or ""
        elif char == "\\":
            word = f"{word or ''}{next(characters, '')}"
        elif char.isspace():
            if word is not None:
                words.append(word)
            word, kept = None, ""
        else:
            word = f"{word or ''}{char}"
            if char in breaks and char in ":=":
                kept = word
    return Line(tuple(words), word or "", "" if quote else kept, quote)


class Bash(BashComplete):
    """Completion for bash that takes keys with colons and blanks."""

    source_template: ClassVar[str] = _BASH

    def source(self) -> str:
        """Return the script; which bash runs it is its own affair."""
        return ShellComplete.source(self)

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one at the cursor, and that one."""
        line = self._line()
        return list(line.words[1:]), line.last

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Return a candidate as bash must put it on the line, where that ends in an unfinished word."""
        line = self._line()
        value = item.value.removeprefix(line.kept)
        return f"{item.type},{value if line.quote else _SPECIAL.sub(_ESCAPED, value)}"

    def _line(self) -> Line:
        return read_line(os.environ.get("COMP_LINE", ""), os.environ.get("COMP_WORDBREAKS", ""))


class Fish(FishComplete):
    """Completion for fish that takes keys with commas."""

    source_template: ClassVar[str] = FishComplete.source_template.replace(
        'string split ","', 'string split --max 1 ","'
    )


SHELLS: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": ZshComplete, "fish": Fish}

for _name, _kind in SHELLS.items():
    add_completion_class(_kind, _name)


@click.command(
    cls=Command,
    examples=[
        ("now, in this bash", "source <(grey-ctl completion bash)"),
        (
            "in every bash from now on",
            "grey-ctl completion bash > ~/.local/share/bash-completion/completions/grey-ctl",
        ),
        ("in every zsh", 'grey-ctl completion zsh > "${fpath[1]}/_grey-ctl"'),
        ("in every fish", "grey-ctl completion fish > ~/.config/fish/completions/grey-ctl.fish"),
    ],
    exits=exits(Exit.WRONG),
)
@click.argument("shell", type=click.Choice(list(SHELLS)), help="Whose script.")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    It completes commands, options, contexts, clusters, and the keys that are there: these are asked of the
    federation and may take a second at most.
    """
    click.echo(SHELLS[shell](ctx.find_root().command, {}, PROGRAM, VARIABLE).source(), nl=False)
