# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can stand at the cursor: contexts, federations, clusters, and keys that are there now.

A completion says nothing when it fails: whoever presses Tab has not asked for an error.
"""

from __future__ import annotations

import asyncio
import re
import threading
from typing import TYPE_CHECKING, Any

from click.shell_completion import CompletionItem

from grey.cli.ctl_path import file_path
from grey.cli.keytext import is_plain, shown
from grey.client import AsyncClient, GreyError
from grey.client.keys import from_text
from grey.config import ctl
from grey.config.errors import ConfigError
from grey.link.tls import TlsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

KEYS_SECONDS = 1.0
"""How long the keys may let the cursor wait."""

_MOST_KEYS = 100


def contexts(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Return the contexts of grey-ctl's file."""
    known = _file(ctx)
    if known is None:
        return []
    return [
        CompletionItem(name, help="in use" if name == known.current else None)
        for name in known.known
        if name.startswith(incomplete)
    ]


def federations(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Return the federations of grey-ctl's file."""
    known = _file(ctx)
    return (
        [CompletionItem(name) for name in known.federations if name.startswith(incomplete)] if known else []
    )


def clusters(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Return the clusters of the federation file."""
    access = _access(ctx)
    if access is None:
        return []
    return [
        CompletionItem(cluster.name, help=cluster.region)
        for cluster in access.federation.clusters
        if cluster.name.startswith(incomplete)
    ]


def keys(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Return keys that begin so, as some cluster has them now; none when nobody answers at once."""
    encoding = _given(ctx, "key_encoding") or "utf8"
    access = _access(ctx)
    prefix = _prefix(incomplete, encoding)
    if access is None or prefix is None:
        return []
    found: list[bytes] = []
    # In a thread, since a resolver that hangs cannot be cancelled: the deadline holds in any case.
    asking = threading.Thread(
        target=_ask, args=(access, prefix, _given(ctx, "cluster"), found), daemon=True, name="keys"
    )
    asking.start()
    asking.join(KEYS_SECONDS)
    return [CompletionItem(text) for text in _shown(list(found), encoding) if text.startswith(incomplete)]


def _ask(access: ctl.Access, prefix: bytes, cluster: str | None, found: list[bytes]) -> None:
    async def ask() -> None:
        client = AsyncClient.from_federation(
            access.federation,
            tls=access.tls,
            names=access.names,
            timeout_seconds=KEYS_SECONDS,
            attempt_seconds=KEYS_SECONDS / 2,
            connect_seconds=KEYS_SECONDS / 4,
        )
        async with client:
            page = await client.page(prefix, limit=_MOST_KEYS, values=False, cluster=cluster)
            found.extend(item.key for item in page.items)

    try:
        asyncio.run(ask())
    except (GreyError, TlsError, OSError, ValueError):
        return


def _shown(found: list[bytes], encoding: str) -> Iterator[str]:
    for key in found:
        if encoding == "percent" or is_plain(key):
            yield shown(key, encoding)


def _prefix(incomplete: str, encoding: str) -> bytes | None:
    try:
        if encoding == "utf8":
            return incomplete.encode()
        return from_text(re.sub(r"%[0-9A-Fa-f]?$", "", incomplete))
    except (UnicodeEncodeError, ValueError):
        return None


def _file(ctx: click.Context) -> ctl.CtlFile | None:
    try:
        return ctl.load(file_path(_given(ctx, "config")))
    except ConfigError:
        return None


def _access(ctx: click.Context) -> ctl.Access | None:
    try:
        return ctl.access(
            file_path(_given(ctx, "config")), _given(ctx, "federation"), context=_given(ctx, "context")
        )
    except ConfigError:
        return None


def _given(ctx: click.Context, name: str) -> Any:
    """Return an option of this command, or of those before it."""
    here: click.Context | None = ctx
    while here is not None:
        if (value := here.params.get(name)) is not None:
            return value
        here = here.parent
    return None
