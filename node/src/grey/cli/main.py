# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The entry point of grey-ctl."""

from __future__ import annotations

import click

import grey


@click.group()
@click.version_option(grey.__version__, prog_name="grey-ctl")
def cli() -> None:
    """Look after a Grey federation."""


def main() -> None:
    """Run grey-ctl."""
    cli(prog_name="grey-ctl")
