# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as its user has it: built, installed elsewhere, deployed offline with ansible-core alone."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from environments import environment
from machine import ROOT
from user import User, changed

NEWEST, BETWEEN, OLDEST = "2.19", "2.18", "2.17"
WHOLE = {"aws-east": "primary", "gcp-west": "replica", "edge-chicago": "replica"}


def grey_ctl(user: User, words: str) -> str:
    """Run grey-ctl as somebody who sourced the deployment's file."""
    return user.run("sh", "-c", f". {user.project}/.demo/env && grey-ctl {words}")


def roles(user: User) -> dict[str, str]:
    said = json.loads(grey_ctl(user, "federation status --federation global-grey -o json"))
    return {cluster["name"]: cluster["status"] for cluster in said["clusters"]}


def test_the_same_files_give_the_same_bytes(tarball: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "tools/collection.py", str(tmp_path)], cwd=ROOT, check=True, timeout=120)
    again = tmp_path / tarball.name
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(tarball.read_bytes()).digest()
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
    assert [name for name in names if name.endswith(".whl")] == [
        f"wheels/grey_distributed-{tarball.name.split('-')[2].removesuffix('.tar.gz')}-py3-none-any.whl"
    ]
    assert "requirements/node.txt" in names
    tests = ("extensions", "node/tests", "tests/image", "tests/install", "tests/molecule")
    unwanted = [name for name in names if name.startswith((*tests, "tools", "."))]
    assert not unwanted


def test_what_galaxy_builds_alone_is_the_same_release(install, tarball: Path, tmp_path: Path) -> None:
    """``ansible-galaxy collection build`` in a clone, or an installation from git, brings sources only."""
    program = (
        "import sys, pathlib\n"
        "from ansible_collections.grey.distributed.plugins.module_utils import _wheelhouse\n"
        "print(_wheelhouse.release_of(pathlib.Path(sys.argv[1])).name)"
    )
    names = set()
    for kind in ("carried", "built"):
        with tarfile.open(tarball) as archive:
            archive.extractall(tmp_path / kind, filter="data")
        if kind == "built":
            (wheel,) = (tmp_path / kind / "wheels").iterdir()
            wheel.unlink()
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / kind)], capture_output=True, text=True, check=True
        )
        names.add(done.stdout.strip())
    assert len(names) == 1


def test_deploys_with_ansible_core_alone(install, bundle: Path) -> None:
    user = install(NEWEST)
    said = user.run("ansible-playbook", "grey.distributed.example", "-e", f"grey_project={user.project}")
    assert f"cd {user.project} && ansible-playbook grey.distributed.deploy" in said

    # Without a bundle there is nothing to install from, and the message says what to do.
    said = user.play("deploy", "-e", "grey_bundle=/nonexistent.tar", code=2)
    assert "/nonexistent.tar: wanted the bundle that grey_bundle names, found no file" in said
    assert not (user.project / ".demo").exists()

    first = user.play("deploy", "-e", f"grey_bundle={bundle}")
    assert changed(first) > 0
    assert roles(user) == WHOLE
    assert "stored user:123" in grey_ctl(user, "kv put user:123 Ada")
    assert "Ada" in grey_ctl(user, "kv get user:123 --consistency strong")
    current = user.project / ".demo" / "aws-east-1" / "opt" / "grey" / "current"
    assert current.is_symlink() and (current / "bin" / "greyd").exists()

    # What was fetched is kept: neither bundle nor network is needed from now on.
    again = user.play("deploy")
    assert changed(again) == 0
    foreseen = user.play("deploy", "--check", "--diff")
    assert changed(foreseen) == 0
    assert "aws-east" in user.play("status")

    gone = user.play("teardown", "-e", "confirm=global-grey")
    assert changed(gone) > 0
    assert not user.processes()
    assert not (user.project / ".demo").exists()


def test_a_job_of_awx_deploys(install, bundle: Path, tarball: Path, python: str, home: Path) -> None:
    """A project with requirements, an inventory as AWX writes it, extra variables, no terminal."""
    user = install(OLDEST)
    user.run("ansible-playbook", "grey.distributed.example", "-e", f"grey_project={user.project}")
    runner = environment("runner", python, None, home)
    jobs, project = user.home / "j", user.project

    # The project's update: collections from its requirements, the inventory source with everything in it.
    user.give(
        project / "collections" / "requirements.yml", f"collections:\n  - name: {tarball}\n    type: file\n"
    )
    collections = {"ANSIBLE_COLLECTIONS_PATH": str(user.home / "requirements_collections")}
    where = ["-r", "collections/requirements.yml", "-p", collections["ANSIBLE_COLLECTIONS_PATH"]]
    user.run("ansible-galaxy", "collection", "install", "--offline", *where, folder=project, **collections)
    inventory = user.run(
        "ansible-inventory", "-i", "inventories/local/hosts.yml", "--list", "--export", folder=project
    )
    user.give(jobs / "inventory" / "hosts", "#!/bin/sh\ncat <<'EOF'\n" + inventory + "EOF\n")
    (jobs / "inventory" / "hosts").chmod(0o755)
    (jobs / "project").symlink_to(project)
    variables = {
        "grey_federation_file": str(project / "inventories" / "local" / "federation.yaml"),
        "grey_demo_root": str(user.home / "d"),
        "grey_bundle": str(bundle),
        "confirm": "global-grey",
    }
    user.give(jobs / "env" / "extravars", json.dumps(variables))
    user.give(jobs / "env" / "envvars", json.dumps(collections))
    user.give(jobs / "env" / "settings", json.dumps({"job_timeout": 1200, "idle_timeout": 600}))

    def job(playbook: str) -> int:
        path = f"{user.variables['PATH'].split(':', 1)[0]}:{runner / 'bin'}:/usr/bin:/bin"
        user.run(
            "ansible-runner", "run", str(jobs), "--playbook", f"{playbook}.yml", "--ident", "job", PATH=path
        )
        events = (
            json.loads(file.read_text())
            for file in (jobs / "artifacts" / "job" / "job_events").glob("*.json")
        )
        (stats,) = [event["event_data"] for event in events if event["event"] == "playbook_on_stats"]
        user.run("rm", "-rf", str(jobs / "artifacts"))
        assert not stats["failures"] and not stats["dark"]
        return sum(stats["changed"].values())

    assert job("deploy") > 0
    assert job("deploy") == 0
    assert job("status") == 0
    assert job("teardown") > 0
    assert not user.processes()
    assert not (user.home / "d").exists()


def test_the_oldest_ansible_core_foresees_a_deployment(install, bundle: Path) -> None:
    user = install(OLDEST)
    if not user.project.exists():
        user.run("ansible-playbook", "grey.distributed.example", "-e", f"grey_project={user.project}")
    said = user.run("ansible-inventory", "--list", folder=user.project)
    assert set(json.loads(said)["grey"]["children"]) == {
        "cluster_aws_east",
        "cluster_gcp_west",
        "cluster_edge_chicago",
    }
    foreseen = user.play("deploy", "--check", "--diff", "-e", f"grey_bundle={bundle}")
    assert changed(foreseen) > 0
    assert "+release " in foreseen and "api: 8080\n" in foreseen
    assert not (user.project / ".demo").exists()


def test_the_ansible_core_between_deploys_too(install, bundle: Path) -> None:
    """Once: that a second run changes nothing is shown with the newest and the oldest."""
    user = install(BETWEEN)
    user.run("ansible-playbook", "grey.distributed.example", "-e", f"grey_project={user.project}")
    assert changed(user.play("deploy", "-e", f"grey_bundle={bundle}")) > 0
    assert roles(user) == WHOLE
    assert changed(user.play("teardown", "-e", "confirm=global-grey")) > 0
    assert not user.processes()


@pytest.mark.parametrize("version", [OLDEST, BETWEEN])
def test_the_modules_pass_their_own_tests_with_an_older_ansible_core(
    install, python: str, home: Path, version: str, tmp_path: Path
) -> None:
    packages = next(environment(f"ansible-{version}", python, None, home).glob("lib/python*/site-packages"))
    (tmp_path / "ansible").symlink_to(packages / "ansible")
    program = (
        "import ansible.release as r, pytest, sys; print(r.__version__); sys.exit(pytest.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "-q", "-m", "not slow", "tests/unit/plugins"],
        cwd=ROOT, check=False, timeout=900,
        env={"PATH": f"{sys.prefix}/bin:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.startswith(version)
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.parametrize("version", [OLDEST, BETWEEN])
def test_the_documentation_reads_the_same_with_an_older_ansible_core(install, version: str) -> None:
    user = install(version)
    programs = user.variables["PATH"].split(":", 1)[0]
    said = user.run(sys.executable, str(ROOT / "tools" / "checks" / "documentation.py"), programs)
    assert " pages read" in said


def test_every_host_can_have_its_wheels() -> None:
    command = [sys.executable, "tools/lock.py", "check"]
    done = subprocess.run(command, cwd=ROOT, check=False, timeout=180, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
