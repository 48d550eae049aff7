# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs in docs/examples run against a real federation, and print what they say they print."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from client.running import ctl_file, real_federation
from support.fake_api import FakeFederation

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.processes

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
WITH_A_FAULT = {"unknown_outcome.py"}
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name not in WITH_A_FAULT)

FEDERATION = """\
federation:
  name: test
  control_plane:
    endpoint: federation.test:1
    tls: {{cert_file: /c, key_file: /k, ca_file: /a}}
  clusters:
    - {{name: aws-east, endpoint: "127.0.0.1:{}", region: east, role: primary}}
  replication: {{mode: async, batch_size: 1000, interval: 100ms, conflict_resolution: last-write-wins}}
  failover: {{auto_failover: false, detection_time: 30s, promotion_timeout: 60s, min_insync_replicas: 0}}
security: {{api: {{tls: "off"}}}}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with real_federation(tmp_path_factory.mktemp("federation")) as federation:
        yield ctl_file(federation)


def promised(name: str) -> str:
    """Return what an example's docstring says that it prints."""
    text = ast.get_docstring(ast.parse((EXAMPLES / name).read_text(encoding="utf-8")))
    assert text is not None
    command, _, printed = text.partition(f"$ python3 {name} ctl.yaml\n")
    assert command != text
    return printed.rstrip("\n") + "\n"


@pytest.mark.parametrize("name", NAMES)
def test_example(name: str, config: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), str(config)], capture_output=True, text=True, timeout=120
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == promised(name)


def test_an_unknown_outcome(tmp_path: Path) -> None:
    fake = FakeFederation(["aws-east"])
    with fake.run():
        federation, config = tmp_path / "federation.yaml", tmp_path / "ctl.yaml"
        federation.write_text(FEDERATION.format(fake["aws-east"].port), encoding="utf-8")
        tls = {"cert_file": "/c", "key_file": "/k", "ca_file": "/a"}
        entry = {"federation_file": str(federation), "tls": tls}
        config.write_text(json.dumps({"federations": {"test": entry}}), encoding="utf-8")
        fake["aws-east"].drops_answers = 1_000_000
        with subprocess.Popen(
            [sys.executable, "-u", str(EXAMPLES / "unknown_outcome.py"), str(config)],
            stdout=subprocess.PIPE,
            text=True,
        ) as program:
            assert program.stdout is not None
            try:
                first = program.stdout.readline()
                fake["aws-east"].drops_answers = 0
                rest, _ = program.communicate(timeout=60)
            finally:
                program.kill()
        assert first + rest == promised("unknown_outcome.py")
        assert program.returncode == 0
        assert fake.sequence == 1
