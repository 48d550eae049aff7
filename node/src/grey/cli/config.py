# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl config``: checks and shows a federation file without touching any host."""

from __future__ import annotations

from typing import NoReturn

import click
import msgspec

from grey.config import federation, schema, support
from grey.config.errors import ConfigError, FormError

WRONG_FILE = 2
"""The exit code for a file that is wrong."""

UNCHECKED = (
    "grey-ctl: the rules between keys were not checked yet; correct the faults above, then check again"
)
"""The last line when the form is wrong: more faults may come."""


@click.group()
def config() -> None:
    """Check and show a federation file."""


@config.command()
@click.argument("file")
def check(file: str) -> None:
    """Check a federation file: exit 0, or 2 with the faults on standard error.

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


@config.command()
@click.argument("file")
@click.option("-o", "--output", type=click.Choice(["json"]), help="Without it, JSON for people.")
def show(file: str, output: str | None) -> None:
    """Show a checked federation file with all defaults; exit 2 when it is wrong."""
    try:
        plain = federation.to_plain(support.load(file))
    except ConfigError as error:
        if output != "json":
            _refuse(error)
        click.echo(msgspec.json.encode({"errors": error.faults}))
        raise SystemExit(WRONG_FILE) from None
    encoded = msgspec.json.encode(plain)
    click.echo(encoded if output == "json" else msgspec.json.format(encoded, indent=2))


@config.command(name="schema")
def show_schema() -> None:
    """Print the JSON Schema of the federation file, for editors."""
    click.echo(schema.text(federation.SCHEMA), nl=False)


def _refuse(error: ConfigError) -> NoReturn:
    for fault in error.faults:
        click.echo(str(fault), err=True)
    if isinstance(error, FormError):
        click.echo(UNCHECKED, err=True)
    raise SystemExit(WRONG_FILE)
