# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The project that the playbook 'example' writes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.grey.distributed.tests.unit.harness import ROOT
from ansible_collections.grey.distributed.tests.unit.playbooks.test_deploy import INSTALLED, PLAYBOOK

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PLAYBOOK is None or not INSTALLED, reason="ansible-playbook cannot see the collection here"
    ),
]


def write(project: Path) -> str:
    """Run the playbook; return what it printed."""
    done = subprocess.run(
        [str(PLAYBOOK), "example.yml", "-e", f"grey_project={project}"], cwd=ROOT / "playbooks",
        env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_git_keeps_the_project_and_none_of_its_keys(tmp_path: Path) -> None:
    project = tmp_path / "project"
    write(project)
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    keys = ("inventories/local/.grey-controller/federation/key.pem", ".demo/controller/operator-key.pem")
    for name in keys:
        (project / name).parent.mkdir(parents=True)
        (project / name).write_text("key")
    command = ["git", "ls-files", "--others", "--exclude-standard"]
    kept = subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout.split()
    assert {".gitignore", "deploy.yml", "inventories/local/federation.yaml"} < set(kept)
    assert not set(keys) & set(kept)

    # What is there stays as it is.
    (project / ".gitignore").write_text("own\n")
    assert "changed=0 " in write(project)
    assert (project / ".gitignore").read_text() == "own\n"
