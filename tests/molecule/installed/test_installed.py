# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second run over the fleet is a job's: the built collection, installed elsewhere, by ansible-runner."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import inventories
from environments import environment
from hosts import BIN, ROOT, Fleet


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with ansible-core alone, which knows of no collection, and with ansible-runner."""
    python, home = str(Path(sys.executable).resolve()), tmp_path_factory.mktemp("programs")
    folders = [environment(name, python, None, home) / "bin" for name in ("ansible-2.19", "runner")]
    return ":".join([*map(str, folders), "/usr/bin", "/bin"])


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, fleet: Fleet, programs: str) -> Path:
    """A folder as ansible-runner wants it: a project without a checkout, its collections, the inventory."""
    home = tmp_path_factory.mktemp("job")
    command = [sys.executable, "tools/collection.py", str(home / "dist")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120, stdin=subprocess.DEVNULL)
    (tarball,) = (home / "dist").glob("*.tar.gz")
    galaxy = ["ansible-galaxy", "collection", "install", "--offline", str(tarball)]
    variables = {"PATH": programs, "HOME": str(home), "LC_ALL": "C.UTF-8"}
    subprocess.run(
        [*galaxy, "-p", str(home / "collections")], cwd=home, env=variables, check=True, timeout=120
    )
    collection = home / "collections" / "ansible_collections" / "grey" / "distributed"
    (home / "project").mkdir()
    shutil.copy(collection / "playbooks" / "ansible.cfg", home / "project")
    playbook = "- name: Deploy\n  ansible.builtin.import_playbook: grey.distributed.deploy\n"
    (home / "project" / "deploy.yml").write_text(playbook)
    inventories.copied(fleet, home / "inventory")
    # The programs on the controller are those that the fleet was deployed with.
    given = {**json.loads(inventories.variables(fleet)), "grey_ctl": str(BIN / "grey-ctl")}
    (home / "env").mkdir()
    (home / "env" / "extravars").write_text(json.dumps(given))
    (home / "env" / "envvars").write_text(json.dumps({"ANSIBLE_COLLECTIONS_PATH": str(home / "collections")}))
    return home


def test_a_job_with_the_installed_collection_changes_nothing(job: Path, programs: str, fleet: Fleet) -> None:
    done = subprocess.run(
        ["ansible-runner", "run", str(job), "--playbook", "deploy.yml", "--ident", "job"],
        cwd=job, timeout=900, check=False, capture_output=True, text=True,
        env={"PATH": programs, "HOME": str(job), "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    print(done.stdout + done.stderr)
    files = (job / "artifacts" / "job" / "job_events").glob("*.json")
    events = [json.loads(file.read_text()) for file in files]
    (stats,) = [event["event_data"] for event in events if event["event"] == "playbook_on_stats"]
    assert done.returncode == 0 and not stats["failures"] and not stats["dark"]
    assert set(stats["ok"]) == {*fleet, "localhost"}
    assert sum(stats["changed"].values()) == 0
    actions = {event["event_data"].get("task_action", "") for event in events}
    assert "grey.distributed.grey_programs" in actions
