# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The document's federation on loopback, and grey-ctl's file for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from click.testing import CliRunner, Result
from support.fake_api import FakeFederation
from support.pki import Authority

from grey.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTS = {
    "aws-east": "grey-east.example.com",
    "gcp-west": "grey-west.example.com",
    "edge-chicago": "grey-chi.edge.internal",
}

FEDERATION = """\
federation:
  name: global-grey
  control_plane:
    endpoint: federation.grey.internal:{control}
    tls:
      cert_file: /etc/grey/federation-cert.pem
      key_file: /etc/grey/federation-key.pem
      ca_file: /etc/grey/federation-ca.pem
  clusters:
    - {{name: aws-east, endpoint: "grey-east.example.com:{api}", region: us-east-1, role: primary}}
    - {{name: gcp-west, endpoint: "grey-west.example.com:{api}", region: us-west1, role: replica}}
    - name: edge-chicago
      endpoint: grey-chi.edge.internal:{api}
      region: edge-chi
      role: replica
      weight: 25
      capabilities: [read-only, cache]
  replication: {{mode: async, batch_size: 1000, interval: 100ms, conflict_resolution: last-write-wins}}
  failover: {{auto_failover: true, detection_time: 30s, promotion_timeout: 60s, min_insync_replicas: 1}}
"""


def cluster(
    name: str, status: str, lag: float | None, throughput: float, **more: object
) -> dict[str, object]:
    return {
        "name": name,
        "region": "somewhere",
        "status": status,
        "online": status in {"primary", "replica", "copying"},
        "weight": 50,
        "epoch": 1,
        "position": "1.42",
        "lag_seconds": lag,
        "lag_records": 0,
        "throughput": throughput,
        "last_seen_seconds": 0.4,
        "problem": None,
        **more,
    }


STATUS = {
    "federation": "global-grey",
    "epoch": 1,
    "primary": "aws-east",
    "voters": {"total": 3, "reachable": 3},
    "clusters": [
        cluster("aws-east", "primary", None, 45230.0),
        cluster("gcp-west", "replica", 0.082, 12450.2),
        cluster("edge-chicago", "replica", 0.34, 2100.0),
        cluster("edge-london", "offline", None, 0.0),
    ],
}


class Site(NamedTuple):
    """A running federation and the files of an operator."""

    fake: FakeFederation
    folder: Path
    config: Path
    authority: Authority

    def run(self, *args: str, charset: str = "utf-8", **options: object) -> Result:
        """Run grey-ctl with this site's file."""
        runner = CliRunner(charset=charset, env={"GREY_CTL_CONFIG": str(self.config), "COLUMNS": None})
        return runner.invoke(cli, list(args), prog_name="grey-ctl", **options)


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def site(authority: Authority, tmp_path: Path) -> Iterator[Site]:
    tls = {
        name: authority.issue(tmp_path / name, name, dns=[f"{name}.grey.internal", host])
        for name, host in HOSTS.items()
    }
    mine = authority.issue(tmp_path / "operator", "operator", dns=["operator.test"])
    fake = FakeFederation(list(HOSTS))
    fake.status = STATUS
    with fake.run(tls, spread=True):
        some = fake["aws-east"]
        (tmp_path / "federation.yaml").write_text(
            FEDERATION.format(api=some.port, control=some.control_port), encoding="utf-8"
        )
        names = "".join(f"\n      {host}: [{fake[name].host}]" for name, host in HOSTS.items())
        config = tmp_path / "ctl.yaml"
        config.write_text(
            f"""\
federations:
  global-grey:
    federation_file: {tmp_path}/federation.yaml
    tls: {{cert_file: {mine.cert_file}, key_file: {mine.key_file}, ca_file: {mine.ca_file}}}
    names:{names}
      federation.grey.internal: [127.91.0.1]
""",
            encoding="utf-8",
        )
        yield Site(fake, tmp_path, config, authority)
