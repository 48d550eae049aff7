# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host must offer before anything on it is touched."""

from __future__ import annotations

import errno
import grp
import json
import os
import platform
import pwd
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils import (
    _processes,
    _reach,
    _supervisor_conf,
    _systemctl,
    _systemd_files,
)
from ansible_collections.grey.distributed.plugins.module_utils._command import run
from ansible_collections.grey.distributed.plugins.module_utils._interpreter import Interpreter, look
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ARCHITECTURES = ("x86_64", "aarch64")
# The kernel takes 107 bytes; supervisord first binds PATH.PID, and a PID has up to seven digits.
SOCKET_BYTES = 99
_COMMAND_SECONDS = 20.0


@dataclass(frozen=True)
class Binary:
    """A program that must run. ``minimum`` is the oldest version that will do, when that matters."""

    path: str
    arguments: tuple[str, ...]
    minimum: str | None = None


def port_faults(address: str, ports: Iterable[tuple[int, str]], instance: str) -> list[str]:
    """Say which ports cannot be had on an address, and who holds them; the instance itself may."""
    wanted = dict(ports)
    unusable = _address_fault(address)
    if unusable is not None:
        return [unusable]
    faults = []
    for held in _processes.listeners(wanted):
        if held.address not in (address, "0.0.0.0", "::", f"::ffff:{address}"):  # noqa: S104 (compared, not bound)
            continue
        owner = held.process
        if owner is not None:
            marks = _processes.environment(owner.pid) or {}
            if marks.get(_processes.MARKER) == instance:
                continue
            who = f"process {owner.pid} ({owner.name})"
            other = marks.get(_processes.MARKER)
            if other is not None:
                who += f" of the Grey deployment under {other}"
            step = f"stop it (kill {owner.pid})" if other is None else "tear that deployment down"
        else:
            who, step = "a process of another user", f"find it as root with: ss -ltnp 'sport = :{held.port}'"
        faults.append(
            f"port {held.port} ({wanted[held.port]}): wanted it free on {address}, found {who} listening on "
            f"{held.address}:{held.port}; {step} and run again"
        )
    return faults


def runs(instance: str, program: str) -> bool:
    """Whether a process of the instance runs a program (a path), which proves that it can."""
    return any(program in _processes.command_line(item.pid).split() for item in _processes.marked(instance))


def manager_faults(manager: str, user: str) -> list[str]:
    """Say why what is to keep the programs running cannot do so here, or not as ``user``."""
    fault = _systemctl.fault() if manager == "systemd" else _supervisor_conf.user_fault(user)
    return [fault] if fault is not None else []


def other_manager_faults(manager: str, instance: str, supervisor_file: str | None) -> list[str]:
    """Say when another manager than ``manager`` keeps the programs of a deployment running on this host."""
    if manager == "supervisor":
        other, found = "systemd", ", ".join(_systemd_files.ours(instance))
    else:
        there = supervisor_file is not None and Path(supervisor_file).exists()
        other, found = "supervisor", str(supervisor_file) if there else ""
    if not found:
        return []
    return [
        (
            f"programs: wanted {manager} to keep them running, found this host deployed with {other} "
            f"({found}); a change would stop all hosts at once. Set grey_program_manager: {other}, or move a "
            f"host at a time: scale.yml -e remove=NAME, grey_program_manager: {manager} for that host, "
            "scale.yml"
        )
    ]


def account_there(user: str, group: str) -> bool:
    """Whether the host has a user and a group; an empty name is no wish."""
    try:
        if user:
            pwd.getpwnam(user)
        if group:
            grp.getgrnam(group)
    except KeyError:
        return False
    return True


def marker_state(path: str) -> str | None:
    """Return what the marker of an etcd member says (docs/reference/node-file.md)."""
    try:
        said = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return None
    return str(said.get("state")) if isinstance(said, dict) else None


def told_heartbeat_ms(path: str) -> int | None:
    """Return the heartbeat in a bootstrap file (docs/reference/node-file.md), None without one."""
    try:
        said = json.loads(Path(path).read_bytes())
        found = re.fullmatch(r"(\d+)ms", said["heartbeat"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return int(found[1]) if found else None


def to_come(member: Mapping[str, Any]) -> bool:
    """Whether the host should have a member of a group and has none yet."""
    return bool(member["wanted"]) and marker_state(member["marker_file"]) != "member"


def rhythms(host: str, members: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Measure the way to the other hosts of groups that begin here; a member that runs keeps its rhythm."""
    return {
        item["group"]: {
            "round_trip_ms": _reach.longest_ms(
                [peer for name, peer in item["peers"].items() if name != host]
            ),
            "heartbeat_ms": told_heartbeat_ms(item["bootstrap_file"] or ""),
        }
        for item in members
        if to_come(item)
    }


def wanted_bytes(own: int, members: Iterable[Mapping[str, Any]]) -> int:
    """Return the room that a host needs, with that for the data of members to come."""
    return own + sum(int(item["free_bytes"]) for item in members if to_come(item))


def member_faults(members: Iterable[tuple[str, str, bool]]) -> list[str]:
    """Say which groups have a member on this host that they should not have.

    ``members`` has the group, the path of the marker, and whether the group should have a member here.
    """
    return [
        f"{group}: wanted no member on this host, as the inventory says, found one ({marker}); put the "
        "hosts of the inventory back into their order (the first one of a cluster has its member of the "
        "federation store), or remove the member: scale.yml -e remove=NAME"
        for group, marker, wanted in members
        if not wanted and marker_state(marker) is not None
    ]


def engine_faults(node_file: str, wanted: str) -> list[str]:
    """Say when the node's file on the host has its data in another engine than the one ``wanted``."""
    found = _in_node_file(node_file, "store", "engine")
    if found is None or found == wanted:
        return []
    return [
        (
            f"engine: wanted the data in {wanted}, as the inventory says, found it in {found} ({node_file}); "
            f"data does not move by itself: set grey_engine: {found} (sqlite has room for one host), or tear "
            "the deployment down first"
        )
    ]


def identity_faults(path: str, wanted: Mapping[str, str]) -> list[str]:
    """Say when the host's identity file (docs/reference/node-file.md) names others than ``wanted`` does.

    ``wanted`` holds federation, cluster and node. A host without the file has no data yet, and no fault.
    """
    try:
        held = json.loads(Path(path).read_bytes())
        found = {key: str(held[key]) for key in wanted}
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        return [
            (
                f"{path}: wanted to read whose data this host holds, found: {said}; restore it from a "
                "backup, or, if the data is intact, delete it and run again"
            )
        ]
    if found == wanted:
        return []
    kinds = [key for key in wanted if found[key] != wanted[key]]
    return [
        (
            f"identity: wanted {_named(wanted, kinds)} as the federation file and the inventory say, found "
            f"the data of {_named(found, kinds)} on this host ({path}); a federation, cluster or node cannot "
            "be renamed: restore the name, or tear that deployment down under its old name first"
        )
    ]


def address_faults(node_file: str, wanted: str, hint: str) -> list[str]:
    """Say when the node's file on the host has another address than the one ``wanted``."""
    found = _in_node_file(node_file, "listen", "address")
    if found is None or found == wanted:
        return []
    return [
        (
            f"address: wanted {wanted} as the inventory says, found this host deployed with {found} "
            f"({node_file}); {hint}"
        )
    ]


def socket_faults(paths: Iterable[str], hint: str) -> list[str]:
    """Say which unix socket paths are longer than the kernel takes."""
    return [
        f"{path}: wanted a unix socket path of at most {SOCKET_BYTES} bytes, found "
        f"{len(os.fsencode(path))}; {hint}"
        for path in paths
        if len(os.fsencode(path)) > SOCKET_BYTES
    ]


def path_faults(paths: Iterable[str]) -> list[str]:
    """Say which paths hold characters that configuration files downstream cannot carry."""
    return [
        f"{path!r}: wanted a path of letters, digits and ._/@+,:=~- without spaces; choose another folder"
        for path in paths
        if not re.fullmatch(r"[\w./@+,:=~-]*", path)
    ]


def folder_faults(paths: Iterable[str]) -> list[str]:
    """Say which folders could not be made or written."""
    faults = []
    for path in paths:
        there = nearest(path)
        if not there.is_dir():
            faults.append(f"{path}: wanted a folder, found a file at {there}; move it away")
        elif not os.access(there, os.W_OK | os.X_OK):
            faults.append(f"{path}: wanted a folder that can be written, found {there} closed to this user")
    return faults


def python_faults(path: str) -> tuple[list[str], Interpreter | None]:
    """Say why the node cannot be installed with a Python; return what it is, when it runs."""
    try:
        found = look(path)
    except GreyError as error:
        return [str(error)], None
    return found.faults(), found


def space_faults(path: str, wanted_bytes: int) -> list[str]:
    """Say when a file system has too little room."""
    there = nearest(path)
    status = os.statvfs(there)
    free = status.f_bavail * status.f_frsize
    if free >= wanted_bytes:
        return []
    return [
        (
            f"{path}: wanted {wanted_bytes // 2**20} MiB free on the file system of {there}, found "
            f"{free // 2**20} MiB; "
            "make room"
        )
    ]


def architecture_faults() -> list[str]:
    """Say when the machine is of a kind that nothing is built for."""
    found = platform.machine()
    if found in ARCHITECTURES:
        return []
    return [f"architecture: wanted one of {', '.join(ARCHITECTURES)}, found {found}"]


def binary_faults(binaries: Sequence[Binary]) -> tuple[list[str], dict[str, str]]:
    """Run every program once, side by side; return the faults, and the versions found by path."""
    faults: list[str] = []
    versions: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=max(1, len(binaries))) as pool:
        for binary, found in zip(binaries, pool.map(_version, binaries), strict=True):
            if isinstance(found, GreyError):
                faults.append(str(found))
                continue
            versions[binary.path] = found
            if binary.minimum is not None and _numbers(found) < _numbers(binary.minimum):
                faults.append(
                    f"{binary.path}: wanted version {binary.minimum} or newer, found {found}; install a "
                    "newer one"
                )
    return faults, versions


def nearest(path: str) -> Path:
    """Return the nearest part of a path that exists."""
    there = Path(path)
    while not there.exists():
        there = there.parent
    return there


def _version(binary: Binary) -> str | GreyError:
    try:
        # etcd before 3.5 does not even tell its version on arm64 unless it is told that this is meant.
        answer = run(
            (binary.path, *binary.arguments),
            timeout_seconds=_COMMAND_SECONDS,
            environment={"ETCD_UNSUPPORTED_ARCH": "arm64"},
        )
    except GreyError as error:
        return error
    if answer.code != 0:
        return GreyError(
            f"{binary.path}: wanted it to tell its version, found exit {answer.code}: {answer.said()}"
        )
    match = re.search(r"\d+(\.\d+)+", answer.output)
    return match.group() if match else "unknown"


def _in_node_file(path: str, section: str, key: str) -> str | None:
    """Return one value of the node's file, None when the host has no such file (yet)."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None  # not deployed; whether the folder can be written is another check
    # Hosts need no YAML library for the few values that are wanted of a file that this collection wrote.
    match = re.search(
        rf"^( +){section}:[^\n]*\n(?:\1 +[^\n]*\n)*?\1 +{key}: *[\"']?([^\s\"']+)", text, re.MULTILINE
    )
    return match.group(2) if match else None


def _named(names: Mapping[str, str], kinds: Sequence[str]) -> str:
    return ", ".join(f"{kind} {names[kind]}" for kind in kinds)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _address_fault(address: str) -> str | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                found = "no interface that has it"
                return f"address: wanted {address} on this host, found {found}; check grey_address"
            return f"address: wanted to listen on {address}, found: {error}; check grey_address"
    return None
