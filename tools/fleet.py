#!/usr/bin/env python3
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of hosts for tests: containers with systemd and sshd, in internal networks of their own.

``fleet.py reserve FLEET`` chooses networks that are free and writes their number to .cache/fleet/FLEET/block;
``fleet.py up FLEET`` reads what to make from standard input, as JSON, and prints what it did:

    {"networks": {"interconnect": "172.30.0.0/24", "aws-east": "172.30.1.0/24"},
     "hosts": {"aws-east-1": {"interconnect": "172.30.0.11", "aws-east": "172.30.1.11"}},
     "names": {"grey-east.example.com": ["172.30.0.11"]}}

``fleet.py logs FLEET`` collects the logs of every host, ``fleet.py down FLEET`` removes the fleet. The key of
the hosts, and a file for ``ssh -F``, are in .cache/fleet/FLEET. Molecule calls all this
(extensions/molecule/shared).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fleet_logs
import get_docker
import image
from console import CACHE, ROOT, Failed, exclusive, report, write_atomically
from containers import (
    BLOCK,
    CHECKOUT,
    FLEET,
    SPEC,
    SYSTEMD,
    Subnet,
    docker,
    is_ours,
    labelled,
    labels_of,
    make_container,
    make_network,
    taken,
)

HOME = CACHE / "fleet"
USER = "admin"  # of the image: may become root without a password
BLOCKS = range(16)  # of 16 networks in 172.30.0.0/16 each, so that several checkouts can have a fleet at once
JOINING = "interconnect"  # the network that joins all hosts, the first of a block
START_SECONDS = 180
WATCHERS = 16  # per host, with what starts and stops
SSH_CONFIG = """\
# For ssh -F: the hosts of the test fleet. They make their host keys when they start.
Host *
    User {user}
    IdentityFile {key}
    IdentitiesOnly yes
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
"""


def main(arguments: list[str]) -> int:
    """Do what is asked; 0 done, 1 failed, 2 wrong usage."""
    actions: dict[str, Callable[[str], object]] = {
        "reserve": reserve,
        "up": lambda fleet: up(fleet, json.load(sys.stdin)),
        "down": down,
        "logs": lambda fleet: fleet_logs.collect(containers(fleet), HOME / fleet / "logs"),
    }
    if len(arguments) != 2 or arguments[0] not in actions:
        print(f"usage: fleet.py {'|'.join(actions)} FLEET", file=sys.stderr)
        return 2
    try:
        # What is said on the way is not the answer.
        with contextlib.redirect_stdout(sys.stderr):
            answer = actions[arguments[0]](arguments[1])
        print(json.dumps(answer))
    except Failed as failure:
        report("fleet", failure)
        return 1
    return 0


def up(fleet: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Make and start what is not there yet, all hosts at once; return when every systemd is up."""
    get_docker.ensure()
    image_name, block = image.ensure(), int((HOME / fleet / "block").read_text(encoding="utf-8"))
    started = time.monotonic()
    key = make_key(HOME / fleet)
    allow_watchers(len(wanted["hosts"]))
    make_networks({name: Subnet(subnet) for name, subnet in wanted["networks"].items()}, block, fleet)
    there = {described["Name"].lstrip("/"): described for described in labelled("container", fleet)}

    def host(name: str) -> bool:
        joined = wanted["hosts"][name].items()
        addresses = [(network_name(block, network), address) for network, address in joined]
        spec = digest([image_name, addresses, wanted["names"], key, SYSTEMD])
        container = container_name(block, name)
        if container in there:
            if labels_of(there[container]).get(SPEC) == spec and there[container]["State"]["Running"]:
                return False
            docker("rm", "--force", "--volumes", container)
        marks = {**labels(fleet, block), SPEC: spec}
        make_container(container, name, image_name, addresses, wanted["names"], marks)
        docker("cp", str(HOME / fleet / "key.pub"), f"{container}:/etc/ssh/authorized_keys/{USER}")
        docker("start", container)
        await_systemd(container)
        return True

    hosts = wanted["hosts"]
    changed = [name for name, made in zip(hosts, at_once(host, hosts), strict=True) if made]
    lines = [SSH_CONFIG.format(user=USER, key=HOME / fleet / "key")]
    lines += [f"Host {name}\n    HostName {next(iter(joined.values()))}\n" for name, joined in hosts.items()]
    write_atomically(HOME / fleet / "ssh_config", "\n".join(lines))
    write_atomically(HOME / fleet / "fleet.json", json.dumps({**wanted, "block": block}, indent=1))
    return {"changed": changed, "seconds": round(time.monotonic() - started, 1)}


def down(fleet: str) -> dict[str, Any]:
    """Remove the fleet of this checkout, and what a checkout that is gone left of one with this name."""
    started = time.monotonic()
    removed = containers(fleet)
    at_once(lambda name: docker("rm", "--force", "--volumes", name), removed)
    networks = [described["Name"] for described in labelled("network", fleet) if is_ours(described)]
    for name in networks:
        docker("network", "rm", name)
    for name in ("key", "key.pub", "ssh_config", "fleet.json", "block"):
        (HOME / fleet / name).unlink(missing_ok=True)
    return {"changed": [*removed, *networks], "seconds": round(time.monotonic() - started, 1)}


def remove_leftovers() -> None:
    """Remove fleets of checkouts that are gone: nobody else will."""
    for described in labelled("container"):
        if not Path(labels_of(described).get(CHECKOUT, "/")).exists():
            docker("rm", "--force", "--volumes", described["Id"])
    for described in labelled("network"):
        if not Path(labels_of(described).get(CHECKOUT, "/")).exists():
            docker("network", "rm", described["Id"])


def containers(fleet: str) -> list[str]:
    """Return the names of this checkout's containers of a fleet."""
    return [described["Name"].lstrip("/") for described in labelled("container", fleet) if is_ours(described)]


def reserve(fleet: str) -> dict[str, Any]:
    """Choose the block of networks for a fleet of this checkout: the one that it has, or the lowest free one.

    The network that joins all hosts is made at once, so that no other checkout takes the block meanwhile.
    """
    get_docker.ensure()
    with exclusive(Path("/tmp") / f"grey-fleet-{os.geteuid()}.lock", "choosing networks for a fleet"):  # noqa: S108
        own = [described for described in labelled("network", fleet) if is_ours(described)]
        if own:
            return note_block(fleet, int(labels_of(own[0])[BLOCK]), made=False)
        unusable = taken()
        for block in BLOCKS:
            if not any(subnet.overlaps(whole_block(block)) for subnet in unusable):
                first = next(whole_block(block).subnets(new_prefix=24))
                make_network(network_name(block, JOINING), first, labels(fleet, block))
                return note_block(fleet, block, made=True)
    raise Failed(
        "172.30.0.0/16 has no block of 16 free networks for a fleet",
        f"remove fleets that nobody needs (docker ps --filter label={FLEET}), or another network there",
    )


def note_block(fleet: str, block: int, *, made: bool) -> dict[str, Any]:
    """Write down which block a fleet has, for its inventory."""
    write_atomically(HOME / fleet / "block", f"{block}\n")
    return {"changed": [network_name(block, JOINING)] if made else [], "block": block}


def labels(fleet: str, block: int) -> dict[str, str]:
    """Return the labels of all that belongs to a fleet of this checkout."""
    return {FLEET: fleet, CHECKOUT: str(ROOT), BLOCK: str(block)}


def allow_watchers(hosts: int, limit: Path = Path("/proc/sys/fs/inotify/max_user_instances")) -> None:
    """Let the kernel watch files for so many systemds: each takes four watchers, all of one user."""
    if not limit.exists() or int(limit.read_text(encoding="utf-8")) >= WATCHERS * hosts:
        return
    try:
        limit.write_text(f"{2 * WATCHERS * hosts}\n", encoding="utf-8")
    except OSError as error:
        raise Failed(
            f"{limit}: {hosts} hosts need {WATCHERS * hosts}, and only root can raise it",
            f"as root: sysctl -w fs.inotify.max_user_instances={2 * WATCHERS * hosts}",
        ) from error


def whole_block(block: int) -> Subnet:
    """Return the addresses of a block: 172.30.0.0/20, 172.30.16.0/20, ..."""
    return Subnet(f"172.30.{16 * block}.0/20")


def network_name(block: int, network: str) -> str:
    """Return what Docker calls a fleet's network."""
    return f"grey-{block}-{network}"


def container_name(block: int, host: str) -> str:
    """Return what Docker calls a fleet's host."""
    return f"grey-{block}-{host}"


def make_networks(wanted: Mapping[str, Subnet], block: int, fleet: str) -> None:
    """Make those that are missing; refuse what would cut this machine off from another network."""
    there = {described["Name"] for described in labelled("network", fleet) if is_ours(described)}
    unusable = taken()
    missing = {name: subnet for name, subnet in wanted.items() if network_name(block, name) not in there}
    for name, subnet in missing.items():
        if overlapping := [other for other in unusable if other.overlaps(subnet)]:
            raise Failed(
                f"network {name}: {subnet} overlaps {', '.join(map(str, overlapping))} of this machine",
                f"fleet.py down {fleet}, or remove the other network (docker network ls), and run this again",
            )
    for name, subnet in missing.items():
        make_network(network_name(block, name), subnet, labels(fleet, block))


def make_key(home: Path) -> str:
    """Make the key that opens the hosts, once per fleet; return its public part."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    key = home / "key"
    if not key.exists() or not key.with_suffix(".pub").exists():
        key.unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "the test fleet's", "-f", str(key)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return key.with_suffix(".pub").read_text(encoding="utf-8")


def await_systemd(container: str) -> None:
    """Wait until systemd has started everything, and say what failed."""
    program = (
        "until systemctl is-system-running --wait 2>/dev/null; do"
        " case $(systemctl is-system-running 2>/dev/null) in degraded) break;; esac; sleep 0.1; done"
    )
    command = ["docker", "exec", container, "timeout", str(START_SECONDS), "sh", "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    words = done.stdout.split()
    if done.returncode != 0 or (words and words[-1] not in ("running", "degraded")):
        log = docker("logs", "--tail", "20", container, check=False)
        raise Failed(
            f"systemd in {container} was not up after {START_SECONDS} s: {done.stdout.strip()}"
            f" {done.stderr.strip()}\n{log}",
            f"docker exec {container} systemctl list-jobs; docker logs {container}",
        )


def at_once(work: Callable[[str], Any], names: Iterable[str]) -> list[Any]:
    """Do something for all hosts at the same time; the first failure is raised when all have ended."""
    names = list(names)
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        return list(pool.map(work, names))


def digest(value: object) -> str:
    """Return a short digest of something that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
