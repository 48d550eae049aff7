# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl config``: checks and shows a federation file without touching any host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

from grey.cli.output import output_options
from grey.cli.teach import Command, Exit, Group, exits
from grey.config import federation, schema, support
from grey.config.errors import ConfigError, FormError

if TYPE_CHECKING:
    from grey.cli.output import Output

WRONG_FILE = Exit.WRONG
"""The exit code for a file that is wrong."""

UNCHECKED = (
    "grey-ctl: the rules between keys were not checked yet; correct the faults above, then check again"
)
"""The last line when the form is wrong: more faults may come."""

_EXITS = exits(c2="the file is wrong; each fault is a line: FILE:LINE: KEY: what")
_file = click.argument("file", type=click.Path(), help="The federation file.")


@click.group(
    cls=Group,
    examples=[
        ("before every deployment", "grey-ctl config check federation.yaml"),
        ("with all defaults filled in", "grey-ctl config show federation.yaml -o yaml"),
    ],
)
def config() -> None:
    """Check and show a federation file."""


@config.command(
    cls=Command,
    examples=[("before every deployment", "grey-ctl config check federation.yaml")],
    exits=_EXITS,
    then=["Correct the lines that are named; then deploy.yml, which checks the same first."],
)
@_file
def check(file: str) -> None:
    """Check a federation FILE, and say every fault on standard error.

    The rules between keys are checked once the form is right; a last line says when they were not.
    """
    try:
        found = support.load(file)
    except ConfigError as error:
        _refuse(error)
    primaries = " ".join(cluster.name for cluster in found.clusters if cluster.role == "primary")
    voters = [cluster.name for cluster in found.clusters if cluster.voter]
    voters += [witness.name for witness in found.witnesses]
    count = len(found.clusters)
    click.echo(
        f"{file}: federation {found.name}, {count} cluster{'s' if count > 1 else ''}, "
        f"primary {primaries}, voters {' '.join(voters)}"
    )


@config.command(
    cls=Command,
    examples=[
        ("for people", "grey-ctl config show federation.yaml"),
        ("who votes", "grey-ctl config show federation.yaml --query 'clusters[?voter].name'"),
    ],
    exits=_EXITS,
    then=["What each key means: docs/reference/federation-file.md."],
)
@_file
@output_options("text")
def show(file: str, out: Output) -> None:
    """Show a checked federation FILE with all defaults.

    With -o json or yaml the faults of a wrong file are {"errors": [...]} on standard output.
    """
    try:
        plain = federation.to_plain(support.load(file))
    except ConfigError as error:
        if out.form not in {"json", "yaml"} or out.queried:
            _refuse(error)
        out.show({"errors": msgspec.to_builtins(error.faults)})
        raise SystemExit(WRONG_FILE) from None
    if out.own:
        click.echo(msgspec.json.format(msgspec.json.encode(plain), indent=2))
    else:
        out.show(plain)


@config.command(
    name="schema",
    cls=Command,
    examples=[
        ("for an editor", "grey-ctl config schema > federation.schema.json"),
        ("what failover takes", "grey-ctl config schema --query 'properties.failover'"),
    ],
    exits=exits(),
    then=["Name it in the first line of the federation file: # yaml-language-server: $schema=..."],
)
@output_options("text")
def show_schema(out: Output) -> None:
    """Print the JSON Schema of the federation file, for editors."""
    text = schema.text(federation.SCHEMA)
    if out.own:
        click.echo(text, nl=False)
    else:
        out.show(json.loads(text))


def _refuse(error: ConfigError) -> NoReturn:
    for fault in error.faults:
        click.echo(str(fault), err=True)
    if isinstance(error, FormError):
        click.echo(UNCHECKED, err=True)
    raise SystemExit(WRONG_FILE)
