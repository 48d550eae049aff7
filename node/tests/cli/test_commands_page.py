# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/reference/commands.md says what grey-ctl takes: commands, arguments, options, exit codes.

The table of all exit codes is in test_main.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from grey.cli.main import cli
from grey.cli.teach import EXITS, Command, Titled

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
TABLE = re.findall(r"^\| `grey-ctl ([^`]+)` \| (.*) \|$", PAGE, re.MULTILINE)
OF_ALL_KEYS = {"--key-encoding", "--timeout"}
"""Options of every command of kv, which a paragraph of the page is about."""

Words = tuple[str, ...]


def commands(group: click.Group, path: Words = ()) -> Iterator[tuple[Words, Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            assert isinstance(command, Command)
            yield (*path, name), command


COMMANDS = dict(commands(cli))


def rows() -> dict[Words, tuple[str, str]]:
    """Return by command how the page says it is used, and what it does."""
    found: dict[Words, tuple[str, str]] = {}
    for usage, what in TABLE:
        words = usage.replace("\\|", "|").split()
        path = tuple(words[:2] if isinstance(cli.commands.get(words[0]), click.Group) else words[:1])
        assert path not in found, path
        found[path] = (" ".join(words[len(path) :]), what)
    return found


def own_options(path: Words) -> dict[str, click.Option]:
    """Return the options that this command has and not every other, too."""
    options = [each for each in COMMANDS[path].params if isinstance(each, click.Option)]
    shared = OF_ALL_KEYS if path[0] == "kv" else set()
    return {
        each.opts[-1]: each
        for each in options
        if not isinstance(each, Titled) and each.opts[-1] not in shared
    }


def argument(each: click.Argument) -> str:
    """Return an argument as the page shows it."""
    if isinstance(each.type, click.Choice):
        return "|".join(each.type.choices)
    name = str(each.name).upper()
    return name if each.required else f"[{name}]"


def test_the_page_has_every_command_and_no_other() -> None:
    assert sorted(rows()) == sorted(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_command_takes_what_the_page_says(path: Words) -> None:
    usage, _ = rows()[path]
    options = own_options(path)
    named = {"--federation"} if path[0] == "federation" else set()  # nearly always given there
    assert set(re.findall(r"--[a-z-]+", usage)) - named == set(options)
    for name, option in options.items():
        if isinstance(option.type, click.Choice):
            assert f"{name} {'|'.join(option.type.choices)}" in usage
        elif isinstance(option.default, float):
            assert f"[{name} {option.default:g}s]" in usage
    arguments = [each for each in COMMANDS[path].params if isinstance(each, click.Argument)]
    words = re.sub(r"--[a-z-]+( [A-Za-z0-9=|]+)?", "", usage)
    shown = re.findall(r"\[?\b[A-Z]+\b\]?|\b[a-z]+(?:\|[a-z]+)+", words.replace(" | ", "|"))
    assert shown == list(map(argument, arguments))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_exit_codes_of_a_command_are_those_of_the_page(path: Words) -> None:
    """Codes with a meaning of their own are said in the row; no row has one that the command has not."""
    _, what = rows()[path]
    shown = set(map(int, re.findall(r"exit (\d+)", what)))
    own = {code for code, text in COMMANDS[path].exits.items() if code and text != EXITS[code]}
    assert own <= shown <= set(COMMANDS[path].exits)


def test_every_option_that_the_page_names_is_there_and_every_shared_one_is_named() -> None:
    everything = [param for command in (cli, *COMMANDS.values()) for param in command.params]
    options = [each for each in everything if isinstance(each, click.Option)]
    known = {name for each in options for name in each.opts} | {"--help"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) <= known
    shared = {each.opts[0] for each in options if isinstance(each, Titled)} | OF_ALL_KEYS
    assert {name for name in shared if not re.search(rf"`{name}[ `]", PAGE)} == set()


def test_every_command_that_the_page_shows_is_there() -> None:
    for line in re.findall(r"grey-ctl ((?:[a-z]+ ?)+)", PAGE):
        first, *more = line.split()
        command = cli.commands.get(first)
        assert command is not None, line
        if isinstance(command, click.Group) and more:
            assert more[0] in command.commands, line
