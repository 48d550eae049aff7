# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The entry point of grey-ctl, and the one place where its failures become lines and exit codes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

import grey
from grey.cli.completion import PROGRAM, VARIABLE, completion
from grey.cli.config import config
from grey.cli.contexts import context
from grey.cli.doctor import doctor
from grey.cli.errors import BROKEN_PIPE, FAILED, INTERRUPTED, CliError
from grey.cli.federation import federation
from grey.cli.kv import kv
from grey.cli.output import color_options
from grey.cli.target import named_options
from grey.cli.teach import EXITS, Group

if TYPE_CHECKING:
    from collections.abc import Sequence

DEBUG = "GREY_CTL_DEBUG"


class GreyCtl(Group):
    """A group whose failures are one line each, and never a traceback."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **options: Any) -> NoReturn:
        """Run a command line and exit."""
        options.pop("standalone_mode", None)
        sys.exit(_run(super().main, args, options))

    def invoke(self, ctx: click.Context) -> Any:
        """Carry out a command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # As itself it would end in click's own handling, with exit code 1.
            raise ReaderGone from error


class ReaderGone(Exception):
    """Nobody reads standard output any more."""


@click.group(
    cls=GreyCtl,
    sections={
        "Look after it": ["federation", "doctor"],
        "Keys and values": ["kv"],
        "Files of this machine": ["config", "context", "completion"],
    },
    examples=[
        ("before a deployment", "grey-ctl config check federation.yaml"),
        ("how it is", "grey-ctl federation status --federation global-grey"),
        ("read a key at the primary", "grey-ctl kv get user:123 --consistency strong"),
        ("on a host: what is wrong here", "grey-ctl doctor"),
    ],
    exits=EXITS,
    then=["grey-ctl COMMAND --help says more, with examples."],
)
@click.version_option(grey.__version__, prog_name="grey-ctl", message="%(prog)s %(version)s")
@named_options
@color_options
@click.pass_context
def cli(ctx: click.Context, /, *, no_color: bool, **given: str | None) -> None:
    """Look after a Grey federation.

    The options here may stand before or after the command.
    """
    ctx.obj = {**given, "color": "never" if no_color else given["color"]}


for command in (federation, doctor, kv, config, context, completion):
    cli.add_command(command)


def main() -> None:
    """Run grey-ctl."""
    try:
        cli(prog_name=PROGRAM)
    finally:
        if VARIABLE in os.environ:
            # A resolver that hangs in a thread would keep the cursor waiting: what there is to say is said.
            sys.stdout.flush()
            os._exit(0)


def _run(command: Any, args: Sequence[str] | None, options: dict[str, Any]) -> int:
    try:
        code = command(args, standalone_mode=False, **options)
        sys.stdout.flush()
    except CliError as error:
        _say(str(error))
        for line in error.more:
            _say(line)
        return error.code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        hint = f"; see {where.command_path} --help" if where is not None else ""
        _say(f"{error.format_message().rstrip('.')}{hint}")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        return INTERRUPTED
    except (ReaderGone, BrokenPipeError):
        # What Python would flush on its way out goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        _say(
            f"a fault of grey-ctl: {type(error).__name__}: {error}; run it again with {DEBUG}=1 and report it"
        )
        return FAILED
    return code if isinstance(code, int) else 0


def _say(line: str) -> None:
    click.echo(f"grey-ctl: {line}", err=True)
