# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _processes

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")


@pytest.fixture
def nobodys() -> Iterator[int]:
    """A process of another user."""
    environment = {_processes.MARKER: "/nobody"}
    with subprocess.Popen(["/bin/sleep", "100"], user="nobody", extra_groups=[], env=environment) as process:
        yield process.pid
        process.kill()


def refuse(_path: Path, *_rest: object) -> None:
    raise PermissionError


@needs_root
def test_what_root_may_not_see_is_asked_for_as_its_user(
    nobodys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = [str(Path(f"/proc/{nobodys}/fd/{number}").readlink()) for number in (0, 1, 2)]
    # Root in a container has no CAP_SYS_PTRACE: here it is refused what the child, who is nobody, reads.
    read_bytes, readlink = Path.read_bytes, Path.readlink
    monkeypatch.setattr(Path, "read_bytes", lambda path: read_bytes(path) if os.geteuid() else refuse(path))
    monkeypatch.setattr(Path, "readlink", lambda path: readlink(path) if os.geteuid() else refuse(path))
    assert _processes.environment(nobodys) == {_processes.MARKER: "/nobody"}
    assert _processes._open_files(nobodys) == opened
    assert _processes.environment(os.getpid()) is None


def test_what_is_gone_has_nothing() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    assert _processes.environment(process.pid) is None
    assert _processes.cgroups(process.pid) == []
    assert _processes._open_files(process.pid) == []
    assert _processes._as_owner(process.pid, lambda: b"never") == b""


def test_a_unit_is_among_the_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_processes, "PROC", tmp_path)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text("9:name=systemd:/docker/1f/system.slice/greyd.service\n0::/\n")
    assert _processes.cgroups(7) == ["docker", "1f", "system.slice", "greyd.service"]


@pytest.mark.parametrize(("numbers", "contained"), [("7", False), ("7\t1", True)])
def test_what_has_a_number_in_a_container_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: str, contained: bool
) -> None:
    monkeypatch.setattr(_processes, "PROC", tmp_path)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text(f"Name:\tx\nNSpid:\t{numbers}\nThreads:\t1\n")
    assert _processes._contained(7) is contained
