# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with everything a node needs on its disk, and nothing that runs."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner, Result
from support.etcd_cluster import free_ports

from grey.cli.main import cli
from grey.store.sqlite_file import APPLICATION_ID, SCHEMA_VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from support.pki import Authority

DOMAIN = "grey.test"
HOST = "grey-a.example.test"


class Host:
    """The files of node a-1; change them, then let the doctor look."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.authority = authority
        self.node_file = folder / "grey.yaml"
        self.data = folder / "data"
        self.address = f"127.{random.randint(100, 250)}.{random.randint(1, 250)}.1"
        self.api, self.control, self.metrics = free_ports(3)
        self.tls = authority.issue(folder / "tls", "a", dns=[f"a.{DOMAIN}", HOST])
        self.node: dict[str, Any] = {
            "mode": "cluster",
            "name": "a-1",
            "cluster": "a",
            "federation_file": str(folder / "federation.yaml"),
            "identity_file": str(folder / "identity.json"),
            "data_dir": str(self.data),
            "store": {"engine": "sqlite"},
            "listen": {
                "address": self.address,
                "api": self.api,
                "control": self.control,
                "metrics": self.metrics,
            },
            "tls": {
                "cert_file": self.tls.cert_file,
                "key_file": self.tls.key_file,
                "ca_file": self.tls.ca_file,
            },
            "names": {HOST: [self.address], "grey-b.example.test": [self.address]},
        }
        self.federation: dict[str, Any] = {
            "name": "test",
            "domain": DOMAIN,
            "control_plane": {"endpoint": f"federation.{DOMAIN}:{self.control}"},
            "clusters": [
                {"name": "a", "endpoint": f"{HOST}:{self.api}", "region": "r", "role": "primary"},
                {
                    "name": "b",
                    "endpoint": f"grey-b.example.test:{self.api}",
                    "region": "s",
                    "role": "replica",
                },
            ],
            "replication": {"mode": "async", "batch_size": 1000, "interval": "100ms"},
            "failover": {
                "auto_failover": False,
                "detection_time": "2s",
                "promotion_timeout": "10s",
                "min_insync_replicas": 1,
            },
        }
        self.data.mkdir(mode=0o700)
        (folder / "identity.json").write_text('{"data_id": "d1"}')
        with closing(sqlite3.connect(self.data / "data.sqlite")) as made:
            made.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            made.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            made.execute("CREATE TABLE t (x)")
        self.write()

    def write(self) -> None:
        """Write the two files as they are said to be now."""
        self.node_file.write_text(json.dumps({"node": self.node}))
        (self.folder / "federation.yaml").write_text(json.dumps({"federation": self.federation}))

    def run(self, *args: str) -> Result:
        arguments = ["doctor", "--node-file", str(self.node_file), "--timeout", "2s", *args]
        return CliRunner(env={"COLUMNS": None}).invoke(cli, arguments, prog_name="grey-ctl")

    def report(self) -> dict[str, Any]:
        done = self.run("-o", "json")
        found: dict[str, Any] = json.loads(done.stdout)
        assert done.exit_code == (0 if found["ok"] else 1), done.output
        return found

    def findings(self, area: str, *states: str) -> list[tuple[str, str, str]]:
        """Return check, what was found and the next step of the findings of an area in these states."""
        return [
            (each["check"], each["found"], each["next"])
            for each in self.report()["findings"]
            if each["area"] == area and each["state"] in states
        ]
