# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl federation``: how the federation is, and whether a write reaches every cluster."""

from __future__ import annotations

import asyncio

import click
import msgspec

from grey.cli import status as status_table
from grey.cli import verify as canary
from grey.cli.context import Duration, Target, find, target_options
from grey.cli.errors import FAILED, NO_ANSWER, CliError, failure
from grey.cli.output import chosen, output_options
from grey.cli.table import Column, Signs, below, draw
from grey.cli.terminal import Screen
from grey.client import Unavailable
from grey.client.control import StatusReport, control_endpoints, federation_status
from grey.link.tls import client_context


@click.group()
def federation() -> None:
    """Look at the federation as a whole."""


@federation.command()
@target_options
@output_options("table")
@click.option("--no-color", is_flag=True, help="Print no colours, also on a terminal.")
@click.option("--timeout", type=Duration(), default=2.0, help="How long one control plane may take (2s).")
def status(
    config: str | None,
    federation: str | None,
    output: str | None,
    query: str | None,
    no_color: bool,
    timeout: float,
) -> None:
    """Show every cluster: its role, its lag, its throughput.

    Asks the clusters that vote one after the other, then the control plane's shared endpoint.
    Exit code 1 when no cluster is the primary, 4 when nobody answers.

    \b
    Examples:
      grey-ctl federation status --federation global-grey
      grey-ctl federation status -o json --query 'clusters[?!online].name'
    """
    wanted = chosen(output, query)
    target = find(config, federation)
    report = asyncio.run(_status(target, timeout))
    if wanted is not None:
        wanted.show(report.plain)
    else:
        screen = Screen.standard(colour=not no_color)
        lines = status_table.lines(report.status, screen.signs, screen.width)
        screen.print(lines, status_table.styles(screen.signs))
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


@federation.command()
@target_options
@output_options("table")
@click.option("--no-color", is_flag=True, help="Print no colours, also on a terminal.")
@click.option(
    "--wait", type=Duration(), default=30.0, help="How long it may take until every cluster shows it (30s)."
)
def verify(
    config: str | None,
    federation: str | None,
    output: str | None,
    query: str | None,
    no_color: bool,
    wait: float,
) -> None:
    """Write a canary through the primary, read it on every other cluster, remove it.

    Exit code 1 when a cluster did not show it in time.

    \b
    Examples:
      grey-ctl federation verify --federation global-grey
      grey-ctl federation verify --wait 5s -o json
    """
    wanted = chosen(output, query)
    outcome = asyncio.run(_verify(find(config, federation), wait))
    if wanted is not None:
        wanted.show(msgspec.to_builtins(outcome.report))
    else:
        screen = Screen.standard(colour=not no_color)
        screen.print(_verify_lines(outcome.report, screen.signs, screen.width))
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
