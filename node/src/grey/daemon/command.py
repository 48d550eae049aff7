# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands of ``greyd`` share: the node's file, exit codes, how they answer and how they stop."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

from grey.config import node as node_file
from grey.config import support
from grey.config.errors import ConfigError

if TYPE_CHECKING:
    from grey.config.model import Federation
    from grey.config.node import NodeFile, WitnessFile

FAILED = 1
WRONG_FILE = 2
REFUSED = 3

DEFAULT_CONFIG = "/etc/grey/grey.yaml"

config_option = click.option(
    "--config",
    "path",
    default=DEFAULT_CONFIG,
    show_default=True,
    type=click.Path(),
    help="The node's file.",
)


def load(path: str) -> tuple[NodeFile, Federation]:
    """Read the node's file and the federation file, or stop with what is wrong."""
    try:
        config = node_file.load(path)
        federation = support.load(config.federation_file)
    except ConfigError as error:
        stop(WRONG_FILE, str(error))
    _require_cluster(path, config, federation)
    return config, federation


def load_either(path: str) -> tuple[NodeFile | WitnessFile, Federation]:
    """Read the file of a node or of a witness, and the federation file, or stop with what is wrong."""
    try:
        config = node_file.load_either(path)
        federation = support.load(config.federation_file)
    except ConfigError as error:
        stop(WRONG_FILE, str(error))
    if isinstance(config, node_file.NodeFile):
        _require_cluster(path, config, federation)
    return config, federation


def _require_cluster(path: str, config: NodeFile, federation: Federation) -> None:
    if federation.cluster(config.cluster) is None:
        known = ", ".join(cluster.name for cluster in federation.clusters)
        stop(
            WRONG_FILE,
            f"{path}: node.cluster: {config.cluster!r} is not in {config.federation_file}, only {known}",
        )


def answer(result: object) -> None:
    """Print a result as one line of JSON."""
    click.echo(msgspec.json.encode(result).decode())


def stop(code: int, message: str) -> NoReturn:
    """End with a message on standard error."""
    click.echo(f"greyd: {message}", err=True)
    sys.exit(code)
