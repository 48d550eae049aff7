# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrades and the ways back, in the order of a bad week: each test goes on where the one before ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest
from releases import Collection
from watching import Reader, Readiness

from deployed import Federation
from hosts import BIN, ROOT, Fleet, wait_for
from recap import changed, changes, recap

UPGRADE = ("ansible-playbook", "grey.distributed.upgrade")
RUNNING = "cat /proc/$(systemctl show -P MainPID greyd)/cmdline | tr '\\0' ' '"
LINKS = "cd /opt/grey; for link in current previous trial; do readlink $link || echo none; done"
PROCESSES = "systemctl show -p MainPID,ActiveEnterTimestampMonotonic greyd 'grey-*'"


def links(fleet: Fleet) -> dict[str, list[str]]:
    """Return the releases that current, previous and trial lead to, on every host."""
    said = fleet.everywhere(LINKS)
    return {host: [line.removeprefix("releases/") for line in lines.split()] for host, lines in said.items()}


def running(fleet: Fleet) -> dict[str, str]:
    """Return the release that greyd runs from, on every host."""
    said = fleet.everywhere(RUNNING)
    return {host: re.findall(r"^/opt/grey/releases/([^/]+)/", words)[0] for host, words in said.items()}


def installed(fleet: Fleet) -> dict[str, set[str]]:
    """Return the releases that are on every host."""
    return {host: set(names.split()) for host, names in fleet.everywhere("ls /opt/grey/releases").items()}


def of_version(fleet: Fleet, version: str) -> str:
    """Return the name of the release of a version, the same on all hosts."""
    found = {name for names in installed(fleet).values() for name in names if name.startswith(f"{version}-")}
    (name,) = found
    return name


def killed_after(command: list[str], hosts: int, variables: dict[str, str]) -> str:
    """Run a playbook until so many hosts are done and one has the release but does not run it; kill it."""
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **variables},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    output, switched = "", 0
    for line in process.stdout:
        output += line
        # Printed when the first result of a task is there.
        switched += "Switch to the release, which has to prove itself" in line
        if switched > hosts:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.wait()
    print(f"$ {' '.join(command)}  (killed)\n{output}")
    assert process.returncode == -signal.SIGKILL, output[-4000:]
    return output


@pytest.fixture(scope="module")
def old(fleet: Fleet) -> str:
    """The release that was deployed first."""
    (name,) = {found[0] for found in links(fleet).values()}
    return name


def test_a_release_that_does_not_start_goes_back_by_itself(
    fleet: Fleet, federation: Federation, old: str, broken: Collection
) -> None:
    """The play stops at the first host, which is as it was before; no other one was touched."""
    before = fleet.everywhere(PROCESSES)
    done = fleet.ansible(*UPGRADE, check=False, **broken.environment)
    assert done.returncode == 2
    (host,) = [name for name, counts in recap(done.stdout).items() if counts["failed"]]
    name = of_version(fleet, broken.version)
    said = " ".join(done.stdout.split())
    assert f"{host}: wanted greyd to come up with release {name}, went back to {old}; no further host" in said
    assert "no greyd of this release starts" in said, "the reason, from the log"
    assert not host.startswith("aws-east"), "the primary's cluster comes last"
    assert fleet.everywhere(PROCESSES, before.keys() - {host}) == {
        name: state for name, state in before.items() if name != host
    }
    assert set(running(fleet).values()) == {old}
    assert {tuple(found[::2]) for found in links(fleet).values()} == {(old, "none")}
    federation.await_whole()


def test_an_upgrade_under_load_is_killed_and_goes_on(
    fleet: Fleet, federation: Federation, old: str, newer: Collection
) -> None:
    arguments = ["-e", "grey_keep_releases=2"]
    with (
        federation.under_load("upgrade/") as writer,
        federation.client() as client,
        Reader(client, writer) as reader,
        Readiness(fleet) as readiness,
    ):
        command = [str(BIN / UPGRADE[0]), *fleet.inventory, UPGRADE[1], *arguments]
        cut = killed_after(command, 2, newer.environment)
        name = of_version(fleet, newer.version)
        now, then = running(fleet), links(fleet)
        (half,) = [host for host, found in then.items() if found == [name, old, name]]
        assert now[half] == old, "it has the release, and does not run it yet"
        assert list(now.values()).count(name) == 2
        rest = fleet.ansible(*UPGRADE, *arguments, **newer.environment).stdout
        writer.await_more()
    done = [changed(output, "Keep the release, which has proven itself") for output in (cut, rest)]
    order = done[0] + done[1]
    assert sorted(order) == sorted(fleet) and half in done[1], done
    assert order[-3:] == fleet.cluster("aws-east"), "the primary's cluster last"
    assert not readiness.together, "never two at once"
    assert sorted(readiness.away) == sorted(fleet)
    assert set(running(fleet).values()) == {name}
    assert {tuple(found) for found in links(fleet).values()} == {(name, old, "none")}
    assert {tuple(sorted(names)) for names in installed(fleet).values()} == {tuple(sorted((name, old)))}
    print(
        f"{len(writer.acknowledged)} writes, {reader.reads} reads, longest pause {writer.longest_pause:.1f} s"
    )
    assert not writer.failed and not reader.failed
    for cluster in federation.clusters:
        wait_for(
            lambda cluster=cluster: set(writer.acknowledged) <= federation.keys(cluster, writer.prefix),
            f"{len(writer.acknowledged)} acknowledged writes on {cluster}",
        )


def test_an_upgrade_that_is_done_changes_nothing(fleet: Fleet, newer: Collection) -> None:
    before = fleet.everywhere(PROCESSES)
    assert changes(fleet.ansible(*UPGRADE, "-e", "grey_keep_releases=2", **newer.environment).stdout) == 0
    assert fleet.everywhere(PROCESSES) == before


def test_back_to_the_release_before(
    fleet: Fleet, federation: Federation, old: str, newer: Collection
) -> None:
    rollback = ("ansible-playbook", "grey.distributed.rollback", "-e", f"version={old.rpartition('-')[0]}")
    kept = federation.keys("aws-east", "upgrade/")
    with Readiness(fleet) as readiness:
        said = fleet.ansible(*rollback, **newer.environment).stdout
    order = changed(said, "Keep the release, which has proven itself")
    assert sorted(order) == sorted(fleet) and order[-3:] == fleet.cluster("aws-east")
    assert not readiness.together
    assert set(running(fleet).values()) == {old}
    assert {tuple(found) for found in links(fleet).values()} == {
        (old, of_version(fleet, newer.version), "none")
    }
    assert kept and kept <= federation.keys("aws-east", "upgrade/")
    assert changes(fleet.ansible(*rollback, **newer.environment).stdout) == 0
