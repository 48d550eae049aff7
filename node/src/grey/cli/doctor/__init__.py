# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl doctor``: what is wrong on this host, and what to do about it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from grey.cli.errors import FAILED, CliError
from grey.cli.output import output_options
from grey.cli.target import Duration
from grey.cli.teach import Command, Exit, exits

if TYPE_CHECKING:
    from grey.cli.doctor.findings import Report
    from grey.cli.output import Output

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@click.command(
    cls=Command,
    examples=[
        ("on a host of the federation", "grey-ctl doctor"),
        ("a node of the demo", "grey-ctl doctor --node-file .demo/aws-east-1/etc/grey/grey.yaml"),
        ("only what is to be done", "grey-ctl doctor -o table --query \"findings[?state!='ok']\""),
    ],
    exits=exits(Exit.WRONG, c0="no problem was found; there may be warnings", c1="there is a problem"),
    then=[
        "Do what the table says, problems first and from the top: what is above often causes what is below.",
        "Then run it again.",
    ],
)
@click.option(
    "--node-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    default=Path("/etc/grey/grey.yaml"),
    show_default=True,
    help="The node's file of this host.",
)
@click.option(
    "--timeout", type=Duration(), default=3.0, help="How long each question over the network may take (3s)."
)
@output_options("table")
def doctor(node_file: Path, timeout: float, out: Output) -> None:
    """Look for what is wrong on this host. Changes nothing, and works while greyd is down.

    Files, certificates, the clock, disks, ports, greyd's health pages, the engine, the federation store and
    the way to the other clusters. Run it as root or as the user that runs greyd.
    """
    # Imported here: no other command needs to know the node's inside.
    from grey.cli.doctor.examine import examine

    report = asyncio.run(examine(node_file.absolute(), timeout))
    if out.own:
        _show(report, out)
    else:
        out.show(msgspec.to_builtins(report))
    if not report.ok:
        count = sum(finding.state == "problem" for finding in report.findings)
        raise CliError(f"found {_count(count, 'problem')}", "each has its next step beside it", code=FAILED)


def _show(report: Report, out: Output) -> None:
    rows, styles = [], []
    for finding in report.findings:
        # Never a column of its own: on a narrow terminal the sentences need all the room there is.
        said = finding.found if finding.next is None else f"{finding.found}\n=> {finding.next}"
        rows.append((finding.area, finding.check, finding.state, said))
        styles.append(None if finding.state == "ok" else _STYLES[finding.state])
    out.screen.table(("area", "what", "state", "found, and => the next step"), rows, styles=styles)
    warnings = sum(finding.state == "warning" for finding in report.findings)
    problems = sum(finding.state == "problem" for finding in report.findings)
    place = f"of {report.cluster}" if report.cluster else "(a witness)"
    who = f"{report.node} {place}" if report.node else "this host"
    out.screen.print([f"{who}: {_count(problems, 'problem')}, {_count(warnings, 'warning')}"])


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
