# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's command line as the fleet needs it: containers that run systemd, internal networks, free subnets.

All that is made carries the labels of its fleet and of the checkout, by which it is found again and removed.
"""

from __future__ import annotations

import ipaddress
import json
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from console import ROOT, Failed

FLEET, CHECKOUT, BLOCK, SPEC = (f"grey.{word}" for word in ("fleet", "checkout", "block", "spec"))
LIMIT_SECONDS = 120.0
Subnet = ipaddress.IPv4Network
# What systemd needs inside: the cgroup tree, room for its runtime files, rights to mount and set up networks.
# SYS_PTRACE lets root look at other users' processes, as on a host of its own; seccomp and AppArmor would
# forbid the name spaces that hardened units are put into.
SYSTEMD = [
    "--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw",
    "--tmpfs", "/run:rw,nosuid,nodev,exec,mode=755", "--tmpfs", "/run/lock",
    "--cap-add", "NET_ADMIN", "--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE",
    "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
    "--stop-signal", "SIGRTMIN+3", "--restart", "no",
]  # fmt: skip
TUNNEL = Path("/dev/net/tun")


def docker(*arguments: str, check: bool = True) -> str:
    """Run a docker command and return what it printed."""
    try:
        done = subprocess.run(
            ["docker", *arguments], check=False, capture_output=True, stdin=subprocess.DEVNULL,
            timeout=LIMIT_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Failed(
            f"docker {' '.join(arguments[:3])} did not end within {LIMIT_SECONDS:.0f} s",
            "look at the daemon (docker info, .cache/docker/dockerd.log) and run this again",
        ) from error
    if check and done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise Failed(f"docker {' '.join(arguments)} failed:\n    {said}", "correct this and run it again")
    return done.stdout.decode(errors="replace").strip()


def labelled(kind: str, fleet: str | None = None) -> list[dict[str, Any]]:
    """Return what Docker knows of the containers or networks of one fleet, or of all fleets."""
    label = f"label={FLEET}" + (f"={fleet}" if fleet else "")
    every = ["--all"] if kind == "container" else []
    found = docker(kind, "ls", "--quiet", *every, "--filter", label).split()
    described: list[dict[str, Any]] = json.loads(docker(kind, "inspect", *found)) if found else []
    return described


def labels_of(described: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a container or network."""
    labels: dict[str, str] | None = described.get("Labels", described.get("Config", {}).get("Labels"))
    return labels or {}


def is_ours(described: Mapping[str, Any]) -> bool:
    """Tell whether this checkout made it, or one that is gone and can remove it no more."""
    checkout = labels_of(described).get(CHECKOUT, "")
    return checkout == str(ROOT) or not Path(checkout or "/").exists()


def options(labels: Mapping[str, str]) -> list[str]:
    """Return the options that label something."""
    return [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]


def make_network(name: str, subnet: Subnet, labels: Mapping[str, str]) -> None:
    """Make an internal network: its hosts and this machine reach each other, and nobody else."""
    docker("network", "create", "--internal", "--subnet", str(subnet), *options(labels), name)


def make_container(
    name: str, hostname: str, image: str, addresses: Sequence[tuple[str, str]],
    names: Mapping[str, Sequence[str]], labels: Mapping[str, str],
) -> None:  # fmt: skip
    """Make a host that is not started yet, with an address in each of its networks.

    Docker writes /etc/hosts anew at each start, so that the names have to be known to Docker. Other names are
    asked at an address where nobody answers: no question leaves the fleet, and none waits.
    """
    (first, address), *more = addresses
    known = [f"--add-host={one}:{where}" for one, all_of_it in names.items() for where in all_of_it]
    tunnel = ["--device", str(TUNNEL)] if TUNNEL.exists() else []
    docker(
        "create", "--name", name, "--hostname", hostname, *options(labels), *SYSTEMD, *tunnel, *known,
        "--dns", "127.0.0.1", "--network", first, "--ip", address, image,
    )  # fmt: skip
    for network, where in more:
        docker("network", "connect", "--ip", where, network, name)


def routes(table: Path = Path("/proc/net/route")) -> list[Subnet]:
    """Return the destinations that this machine has routes to, without the default one."""
    lines = table.read_text(encoding="utf-8").splitlines()[1:] if table.exists() else []
    found = []
    for line in lines:
        words = line.split()
        destination, mask = (struct.pack("<L", int(words[column], 16)) for column in (1, 7))
        subnet = ipaddress.IPv4Network((destination, str(ipaddress.IPv4Address(mask))))
        if subnet.prefixlen > 0:
            found.append(subnet)
    return found


def taken() -> list[Subnet]:
    """Return all that a new network must not overlap: routes, and Docker's networks, which may be down."""
    names = docker("network", "ls", "--quiet").split()
    found = routes()
    for network in json.loads(docker("network", "inspect", *names)) if names else []:
        for config in (network.get("IPAM") or {}).get("Config") or []:
            subnet = ipaddress.ip_network(config.get("Subnet", "::/128"), strict=False)
            if isinstance(subnet, Subnet):
                found.append(subnet)
    return found
