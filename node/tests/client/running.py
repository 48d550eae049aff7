# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real federation for the tests of a file, and grey-ctl's file for it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from anyio.from_thread import start_blocking_portal
from support.federation import RunningFederation, running_federation

from grey.config.federation import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def real_federation(folder: Path, **options: Any) -> Iterator[RunningFederation]:
    """Run three clusters of one node each (or what the options say), for as long as the context."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running_federation(folder, **options)) as federation,
    ):
        yield federation


def ctl_file(federation: RunningFederation) -> Path:
    """Write grey-ctl's file."""
    tls = federation.operator
    files = {"cert_file": tls.cert_file, "key_file": tls.key_file, "ca_file": tls.ca_file}
    entry = {"federation_file": str(federation.file), "tls": files, "names": federation.names}
    path = federation.folder / "ctl.yaml"
    path.write_text(json.dumps({"federations": {load(federation.file).name: entry}}), encoding="utf-8")
    return path
