# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cleaning up ends this demo's processes and nothing else; failures of a deployment are shown short."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import demo
from console import Failed

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "demo"
    monkeypatch.setattr(demo, "DEMO", path)
    monkeypatch.setattr(demo, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(demo, "PLAYBOOK", ["false"])  # a deployment that no playbook can take down any more
    return path


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that sleeps, with the mark of a deployment."""
    started = []

    def start(mark: Path | str, *, deaf: bool = False) -> subprocess.Popen[bytes]:
        program = "import signal, sys, time\n"
        program += "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if deaf else ""
        program += "print(flush=True); time.sleep(60)"
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, demo.MARKER: str(mark)},
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_clean_ends_what_is_ours_and_only_that(
    folder: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "controller").mkdir(parents=True)
    ours, frozen, deaf = start(folder / "aws-east-1"), start(folder), start(folder / "x", deaf=True)
    other, lookalike = start("/srv/other"), start(f"{folder}-2/aws-east-1")
    frozen.send_signal(signal.SIGSTOP)
    demo.clean()
    assert [process.wait(5) for process in (ours, frozen, deaf)] == [
        -signal.SIGTERM,
        -signal.SIGTERM,
        -signal.SIGKILL,
    ]
    assert other.poll() is None and lookalike.poll() is None
    assert not folder.exists()
    output = capsys.readouterr().out
    assert "the playbook failed" in output and "and 3 processes that were left over" in output


def test_clean_of_nothing_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.clean()
    assert "nothing to clean" in capsys.readouterr().out


def test_clean_refuses_a_folder_that_is_no_demo(folder: Path) -> None:
    (folder / "holiday-pictures").mkdir(parents=True)
    with pytest.raises(Failed, match="does not look like a demo"):
        demo.clean()
    assert (folder / "holiday-pictures").is_dir()


def test_status_without_a_deployment_says_what_to_do(folder: Path) -> None:
    with pytest.raises(Failed) as caught:
        demo.status()
    assert caught.value.next_step == "make demo"


def test_a_play_is_shown_once_and_named_until_its_first_task(capsys: pytest.CaptureFixture[str]) -> None:
    phases = demo.Phases()
    restart = "PLAY [5 | Node, restart] ****"
    assert [phases(line) for line in (restart, "TASK [Wait] ***", restart, "ok: [a]")] == [
        "5 | Node, restart", "Wait", "5 | Node, restart", None,
    ]  # fmt: skip
    assert capsys.readouterr().out == "  5 | Node, restart\n"


@pytest.mark.parametrize(
    ("changed", "said"),
    [((0, 0), "0 changes: everything"), ((1, 0), "1 change: d"), ((1, 1), "2 changes: d")],
)
def test_changes_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], changed: tuple[int, int], said: str
) -> None:
    output = "".join(f"h : ok=1 changed={number}\n" for number in changed)
    monkeypatch.setattr(demo, "run", lambda *_args, **_options: (0, output))
    monkeypatch.setattr(demo, "table", lambda: None)
    demo.up()
    assert f"\n{said}" in capsys.readouterr().out


def test_the_fault_of_a_run_is_what_is_shown() -> None:
    error = (
        "[ERROR]: Task failed: Module failed: port 8080: wanted it free,\nfound process 7\nOrigin: x.yml:3\n"
    )
    output = (
        "PLAY [2 | Prepare] ****\nTASK [Write] ****\nok: [a]\nTASK [host : Look at the ports] ***\n"
        f"{error}\n3 - name: Look\nfatal: [b]: FAILED! =>\n    msg: long\n{error}\nfatal: [a]: FAILED!\n"
        "PLAY RECAP ***\na : ok=1 changed=0\n"
    )
    assert demo.fault(output).splitlines() == [
        "    at 'host : Look at the ports' on a, b:",
        "    port 8080: wanted it free,",
        "    found process 7",
    ]
    assert "boom" in demo.fault("Traceback\nboom\n")


def test_a_demo_in_a_folder_that_would_fail_later_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "DEMO", tmp_path / "my demo")
    with pytest.raises(Failed, match=r"the demo.s folder is .*my demo: .* found a space") as caught:
        demo.up()
    assert "GREY_DEMO_ROOT=/other/folder" in caught.value.next_step
