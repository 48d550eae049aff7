# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a cluster's engine: the node's file beside each member, ``greyd engine`` as typed there."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from support.federation import GREYD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.engine_cluster import EngineProcess

FEDERATION = {
    "federation": {
        "name": "test",
        "control_plane": {
            "endpoint": "federation.grey.internal:8443",
            "tls": {"cert_file": "/c.pem", "key_file": "/k.pem", "ca_file": "/a.pem"},
        },
        "clusters": [
            {"name": "aws-east", "endpoint": "grey-east.example.com:8080", "region": "r", "role": "primary"}
        ],
    }
}


def node_file(member: EngineProcess, store: dict[str, Any] | None = None) -> Path:
    """Write the node's file beside a member; return it."""
    federation = member.folder / "federation.yaml"
    federation.write_text(json.dumps(FEDERATION))
    tls = {"cert_file": "/c.pem", "key_file": "/k.pem", "ca_file": "/a.pem"}
    document = {
        "name": member.name,
        "cluster": "aws-east",
        "federation_file": str(federation),
        "identity_file": str(member.folder / "identity.json"),
        "data_dir": str(member.folder / "greyd"),
        "store": store or member.store_section(),
        "listen": {"address": member.member.peer.host},
        "tls": tls,
    }
    path = member.folder / "grey.yaml"
    path.write_text(json.dumps({"node": document}))
    return path


def greyd(config: Path, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run ``greyd engine`` with more words to its end."""
    return subprocess.run(
        [GREYD, "engine", "--config", str(config), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextmanager
def becoming(configs: list[Path]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start ``greyd engine`` with each file; kill what became of them."""
    environment = os.environ | {"ETCD_NAME": "stray", "ETCD_AUTO_COMPACTION_RETENTION": "stray"}
    running = [
        subprocess.Popen(
            [GREYD, "engine", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        for config in configs
    ]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait(10)
