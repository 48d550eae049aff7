# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second run over the fleet is that of a job: the built collection, installed elsewhere, by ansible-runner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import inventories
import pytest
from hosts import BIN, ROOT, Fleet

for _folder in ("install", "demo"):
    sys.path.insert(0, str(ROOT / "tests" / _folder))

from environments import environment


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, fleet: Fleet) -> Path:
    """A folder as ansible-runner wants it: a project without a checkout, its collections, the inventory."""
    home = tmp_path_factory.mktemp("job")
    command = [sys.executable, "tools/collection.py", str(home / "dist")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120, stdin=subprocess.DEVNULL)
    (tarball,) = (home / "dist").glob("*.tar.gz")
    galaxy = [str(BIN / "ansible-galaxy"), "collection", "install", "--offline", str(tarball)]
    subprocess.run([*galaxy, "-p", str(home / "collections")], cwd=home, check=True, timeout=120)
    collection = home / "collections" / "ansible_collections" / "grey" / "distributed"
    (home / "project").mkdir()
    (home / "project" / "ansible.cfg").write_text((collection / "playbooks" / "ansible.cfg").read_text())
    playbook = "- name: Deploy\n  ansible.builtin.import_playbook: grey.distributed.deploy\n"
    (home / "project" / "deploy.yml").write_text(playbook)
    inventories.copied(fleet, home / "inventory")
    # The programs on the controller are those that the fleet was deployed with.
    given = {**json.loads(inventories.variables(fleet)), "grey_ctl": str(BIN / "grey-ctl")}
    (home / "env").mkdir()
    (home / "env" / "extravars").write_text(json.dumps(given))
    (home / "env" / "envvars").write_text(json.dumps({"ANSIBLE_COLLECTIONS_PATH": str(home / "collections")}))
    return home


def test_a_job_with_the_installed_collection_changes_nothing(job: Path) -> None:
    python = str(Path(sys.executable).resolve())
    programs = [environment(name, python, None, job) / "bin" for name in ("ansible-2.19", "runner")]
    done = subprocess.run(
        ["ansible-runner", "run", str(job), "--playbook", "deploy.yml", "--ident", "job"],
        cwd=job, timeout=900, check=False, capture_output=True, text=True,
        env={**os.environ, "PATH": f"{programs[0]}:{programs[1]}:/usr/bin:/bin", "HOME": str(job)},
    )  # fmt: skip
    print(done.stdout + done.stderr)
    events = [json.loads(file.read_text()) for file in (job / "artifacts" / "job" / "job_events").glob("*.json")]
    (stats,) = [event["event_data"] for event in events if event["event"] == "playbook_on_stats"]
    assert done.returncode == 0 and not stats["failures"] and not stats["dark"]
    assert len(stats["ok"]) == 7 + 1  # the hosts, and the controller
    assert sum(stats["changed"].values()) == 0
    modules = {event["event_data"].get("task_action", "") for event in events}
    assert "grey.distributed.grey_programs" in modules
