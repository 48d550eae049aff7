# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl federation``: how the federation is, and whether a write reaches every cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click
import msgspec

from grey.cli import status as status_table
from grey.cli import verify as canary
from grey.cli.errors import FAILED, NO_ANSWER, CliError, failure
from grey.cli.output import output_options
from grey.cli.table import Column, Signs, below, draw
from grey.cli.target import Duration, target_options
from grey.cli.teach import Command, Exit, Group, exits
from grey.client import Unavailable
from grey.client.control import StatusReport, control_endpoints, federation_status
from grey.link.tls import client_context

if TYPE_CHECKING:
    from grey.cli.output import Output
    from grey.cli.target import Target, Where


@click.group(
    cls=Group,
    examples=[
        ("how it is", "grey-ctl federation status"),
        ("whether a write reaches every cluster", "grey-ctl federation verify"),
    ],
)
def federation() -> None:
    """Look at the federation as a whole."""


@federation.command(
    cls=Command,
    examples=[
        ("the table", "grey-ctl federation status --federation global-grey"),
        ("who is offline", "grey-ctl federation status --query 'clusters[?!online].name'"),
        ("for a script", "grey-ctl federation status -o json"),
    ],
    exits=exits(
        Exit.WRONG,
        c1="no cluster is the primary (the table is still printed)",
        c4="no control plane answered",
    ),
    then=[
        "A cluster is offline: run grey-ctl doctor on its host.",
        "A lag grows: look at greyd's log there.",
    ],
)
@click.option("--timeout", type=Duration(), default=2.0, help="How long one control plane may take (2s).")
@target_options
@output_options("table")
def status(where: Where, out: Output, timeout: float) -> None:
    """Show every cluster: its role, its lag, its throughput.

    Asks the clusters that vote one after the other, then the control plane's shared endpoint.
    """
    target = where.find()
    report = asyncio.run(_status(target, timeout))
    if out.own:
        screen = out.screen
        lines = status_table.lines(report.status, screen.signs, screen.width)
        screen.print(lines, status_table.styles(screen.signs))
    else:
        out.show(report.plain)
    for cluster in report.status.clusters:
        if cluster.problem:
            click.echo(f"grey-ctl: {cluster.name}: {cluster.problem}", err=True)
    voters = report.status.voters
    if voters.reachable <= voters.total // 2:
        within = target.federation.failover.detection_time_seconds
        click.echo(
            f"grey-ctl: {voters.reachable} of {voters.total} voters reachable, writes need "
            f"{voters.total // 2 + 1}: they stop when detection_time ({within:g}s) has "
            "passed; start greyd's federation store there, or mend the network",
            err=True,
        )
    if not any(cluster.status == "primary" for cluster in report.status.clusters):
        raise CliError(
            "no cluster is the primary, nothing can be written",
            "look at the clusters above, and at greyd's log on the voters",
            code=FAILED,
        )


@federation.command(
    cls=Command,
    examples=[
        ("after every change", "grey-ctl federation verify --federation global-grey"),
        ("how long each cluster took", "grey-ctl federation verify --wait 5s -o json"),
    ],
    exits=exits(Exit.WRONG, Exit.REFUSED, Exit.NO_ANSWER, c1="a cluster did not show it in time"),
    then=["A cluster is missing: grey-ctl federation status, then grey-ctl doctor on its host."],
)
@click.option(
    "--wait", type=Duration(), default=30.0, help="How long it may take until every cluster shows it (30s)."
)
@target_options
@output_options("table")
def verify(where: Where, out: Output, wait: float) -> None:
    """Write a canary through the primary, read it on every other cluster, remove it."""
    outcome = asyncio.run(_verify(where.find(), wait))
    if out.own:
        out.screen.print(_verify_lines(outcome.report, out.screen.signs, out.screen.width))
    else:
        out.show(msgspec.to_builtins(outcome.report))
    if outcome.left_behind is not None:
        key, why = outcome.left_behind
        click.echo(
            f"grey-ctl: the canary could not be removed: {why}; run grey-ctl kv delete {key}",
            err=True,
        )
    if outcome.write_error is not None:
        raise failure(outcome.write_error)
    if not outcome.report.ok:
        missing = [f"{row.name}: {row.problem}" for row in outcome.report.clusters if not row.ok]
        raise CliError(
            "the write did not reach every cluster",
            "see grey-ctl federation status",
            code=FAILED,
            more=missing,
        )


async def _status(target: Target, timeout_seconds: float) -> StatusReport:
    try:
        return await federation_status(
            control_endpoints(target.federation),
            client_context(target.tls),
            target.names,
            attempt_seconds=timeout_seconds,
        )
    except Unavailable as error:
        asked = [str(attempt) for attempt in error.attempts]
        raise CliError(error.message, error.hint, code=NO_ANSWER, more=asked) from None


async def _verify(target: Target, wait_seconds: float) -> canary.Outcome:
    names = [cluster.name for cluster in target.federation.clusters]
    async with target.client(wait_seconds) as client:
        return await canary.verify(client, target.federation.name, names, wait_seconds)


def _verify_lines(report: canary.Report, signs: Signs, width: int | None) -> list[str]:
    rows = []
    for row in report.clusters:
        what = "Written" if row.name == report.primary else "Seen"
        state = f"{signs.on} {what}" if row.ok else f"{signs.off} Missing"
        took = "N/A" if row.milliseconds is None else f"{row.milliseconds:,.1f} ms"
        rows.append((row.name, state, took))
    epoch = "unknown" if report.epoch is None else report.epoch
    found = (
        "every cluster shows what was written" if report.ok else "not every cluster shows what was written"
    )
    columns = (Column("Cluster", 13), Column("Canary", 10), Column("Time", 12))
    return [
        *draw("Grey Federation Check", columns, rows, signs, width),
        *below(f"federation {report.federation}, epoch {epoch}: {found}", width),
    ]
