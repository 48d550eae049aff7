# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks up to the point where processes would start, with programs that only answer."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.grey.distributed.tests.unit.harness import ROOT, program, tree

PLAYBOOK = shutil.which("ansible-playbook", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
# Under another loader (ansible-test) the collection is not where ansible-playbook looks for it.
INSTALLED = any((Path(entry) / "ansible_collections" / "grey" / "distributed").exists() for entry in sys.path)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PLAYBOOK is None or not INSTALLED, reason="ansible-playbook cannot see the collection here"
    ),
]


def federation() -> dict[str, object]:
    """Return what grey-ctl config show prints for the document's file."""
    document = yaml.safe_load((ROOT / "inventories" / "local" / "federation.yaml").read_text())["federation"]
    for part in (document["control_plane"], *document["clusters"]):
        host, _separator, port = part["endpoint"].rpartition(":")
        part["endpoint"] = {"host": host, "port": int(port)}
    for cluster in document["clusters"]:
        cluster["voter"] = True
    document["domain"] = "grey.internal"
    document["security"] = {"cert_rotation_interval_seconds": 86400.0}
    document["max_clock_offset_seconds"] = 0.5
    document["witnesses"] = []
    return document


class Deployment:
    """A root folder and a folder of programs."""

    def __init__(self, root: Path) -> None:
        self.root = root / "demo"
        self.bin = root / "bin"
        self.bin.mkdir()
        self.holds(federation())
        for name in ("greyd", "supervisord", "etcd"):
            program(self.bin / name, "print('version 3.5.0')\n")

    def holds(self, document: dict[str, object]) -> None:
        """Say what grey-ctl finds in the federation file."""
        program(
            self.bin / "grey-ctl",
            f"import sys\nif 'show' in sys.argv and 'wrong' in sys.argv[3]:\n    print({wrong()!r})\n    "
            "sys.exit(2)\n"
            f"print({json.dumps(document)!r})\n",
        )

    def play(self, playbook: str, *arguments: str, code: int = 0, net: str = "127.66") -> str:
        """Run a playbook; return what it printed."""
        done = subprocess.run(
            [str(PLAYBOOK), f"{playbook}.yml", "-i", "../inventories/local", "-e", f"grey_bin_dir={self.bin}",
             "-e", f"grey_ctl={self.bin}/grey-ctl", "-e", f"grey_etcd={self.bin}/etcd", *arguments],
            cwd=ROOT / "playbooks",
            env={**os.environ, "GREY_DEMO_ROOT": str(self.root), "GREY_DEMO_NET": net, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


def wrong() -> str:
    fault = {
        "file": "wrong.yaml",
        "line": 3,
        "key": "federation.nmae",
        "message": "unknown key",
        "hint": None,
    }
    return json.dumps({"errors": [fault]})


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with tempfile.TemporaryDirectory(prefix="gd-") as folder:
        yield Deployment(Path(folder))


def test_a_limited_run_renders_what_a_full_run_does(deployment: Deployment) -> None:
    output = deployment.play("deploy", "--tags", "prepare,trust", "--limit", "gcp-west-1")
    assert "Could not match supplied host pattern" not in output
    assert sorted(path.name for path in deployment.root.iterdir()) == ["controller", "env", "gcp-west-1"]
    limited = tree(deployment.root / "gcp-west-1")
    output = deployment.play("deploy", "--tags", "prepare,trust")
    assert re.search(r"gcp-west-1 .*changed=0 ", output)
    assert tree(deployment.root / "gcp-west-1") == limited
    node = yaml.safe_load((deployment.root / "gcp-west-1/etc/grey/grey.yaml").read_text())["node"]
    assert node["federation_store"]["endpoints"] == ["127.66.1.1:2379", "127.66.2.1:2379", "127.66.3.1:2379"]


def test_check_mode_on_a_clean_machine_foresees_everything_and_touches_nothing(
    deployment: Deployment,
) -> None:
    output = deployment.play("deploy", "--check", "--diff", "-e", "grey_federation_store_heartbeat_ms=110")
    assert not deployment.root.exists()
    for words in ("heartbeat: 110ms\n", '"state": "new"', "the authority Grey federation",
                  "empty, with a new identity",
                  "command = ", "grey.yaml"):  # fmt: skip
        assert words in output
    assert "PRIVATE KEY" not in output
    for host in ("aws-east-1", "gcp-west-1", "edge-chicago-1"):
        assert re.search(rf"{host} .*changed=[1-9]", output)
    _before, verify, after = output.partition("PLAY [7 | Verify]")
    assert verify and "ok: [" not in after


def test_a_wrong_file_is_refused_before_any_host_is_touched(deployment: Deployment, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("")
    output = deployment.play("deploy", "-e", f"grey_federation_file={file}", code=2)
    assert "wrong.yaml:3: federation.nmae: unknown key" in output
    assert "PLAY [2" not in output
    assert not deployment.root.exists()


def test_another_name_or_network_is_refused_before_anything_is_written(deployment: Deployment) -> None:
    deployment.play("deploy", "--tags", "prepare,trust")
    for host in ("aws-east-1", "gcp-west-1", "edge-chicago-1"):
        identity = {"federation": "global-grey", "cluster": host[:-2], "node": host, "data_id": "d1"}
        (deployment.root / host / "etc/grey/identity.json").write_text(json.dumps(identity))
    before = tree(deployment.root)
    output = deployment.play("deploy", net="127.67", code=2)
    assert (
        "aws-east-1: address: wanted 127.67.1.1 as the inventory says, found this host deployed with "
        in output
    )
    assert (
        "set GREY_DEMO_NET to the old one, or tear the deployment down first "
        "(make demo-clean, or teardown.yml)" in output
    )
    assert tree(deployment.root) == before
    deployment.holds({**federation(), "name": "other-grey"})
    output = deployment.play("deploy", "--limit", "gcp-west-1", code=2)
    assert "gcp-west-1: identity: wanted federation other-grey as" in output
    assert "found the data of federation global-grey on this host" in output
    assert tree(deployment.root) == before


def test_tearing_down_needs_the_name_and_survives_a_broken_file(
    deployment: Deployment, tmp_path: Path
) -> None:
    deployment.play("deploy", "--tags", "prepare,trust")
    before = tree(deployment.root)
    output = deployment.play("teardown", code=2)
    assert 'wanted -e confirm=global-grey, found "", nothing was removed' in output.replace(";", ",")
    assert tree(deployment.root) == before
    broken = tmp_path / "broken.yaml"
    broken.write_text("{{{")
    arguments = ("-e", "confirm=global-grey", "-e", f"grey_federation_file={broken}")
    deployment.play("teardown", *arguments, "--limit", "gcp-west-1")
    assert sorted(path.name for path in deployment.root.iterdir()) == [
        "aws-east-1", "controller", "edge-chicago-1", "env",
    ]  # fmt: skip
    deployment.play("teardown", *arguments)
    assert not deployment.root.exists()
