# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sum of the lanes is right, whatever way a lane fails."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

import lanes


@pytest.mark.parametrize(
    ("output", "counts"),
    [
        ("....\n12 passed in 3.1s\n", {"passed": 12}),
        (
            "1 failed, 3 passed, 2 skipped, 1 error in 0.1s",
            {"failed": 1, "passed": 3, "skipped": 2, "error": 1},
        ),
        ("2 passed, 2 errors in 1s", {"passed": 2, "error": 2}),
        ("lint: 9 passed, 2 failed\n", {"passed": 9, "failed": 2}),
        ("no tests ran in 0.01s", {}),
    ],
)
def test_closing_lines_are_read(output: str, counts: dict[str, int]) -> None:
    assert lanes.count(output) == counts


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run lanes of small programs; return the exit code and what was printed."""
    monkeypatch.setattr(lanes, "LOGS", lanes.ROOT / ".cache" / "lanes-test" / tmp_path.name)

    def run(**programs: str) -> tuple[int, str]:
        made = {
            name: lanes.Lane(name, [sys.executable, "-c", text], limit_seconds=0.5)
            for name, text in programs.items()
        }
        monkeypatch.setattr(lanes, "lanes", lambda: made)
        return lanes.main(list(made)), capsys.readouterr().out

    return run


def closing(output: str) -> str:
    (line,) = re.findall(r"^\d+ passed, \d+ failed$", output, re.MULTILINE)
    return line


def test_all_pass(run) -> None:
    code, output = run(a="print('3 passed in 1s')", b="print('lint: 4 passed, 0 failed')")
    assert (code, closing(output)) == (0, "7 passed, 0 failed")


def test_a_lane_that_fails_shows_the_end_of_its_output(run) -> None:
    code, output = run(
        a="print('3 passed in 1s')", b="print('oh no'); print('1 failed, 2 passed'); raise SystemExit(1)"
    )
    assert (code, closing(output)) == (1, "5 passed, 1 failed")
    assert "b| oh no" in output


@pytest.mark.parametrize(
    "program", ["", "raise SystemExit(5)", "print('3 passed'); raise SystemExit(1)", "print('0 passed')"]
)
def test_a_lane_that_runs_nothing_or_fails_without_a_word_counts_as_failed(run, program: str) -> None:
    code, output = run(a=program)
    assert code == 1 and closing(output).endswith("1 failed")


def test_a_lane_that_hangs_is_ended(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "ALIVE_SECONDS", 0.3)
    code, output = run(a="import time; print('1 passed', flush=True); time.sleep(60)")
    assert code == 1
    assert "ended: not finished after 0 s" in output or "KeyboardInterrupt" in output


def test_an_unknown_lane_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert lanes.main(["nonsense"]) == 2
    assert "lanes: fleet, demo, scale, install, sanity, node" in capsys.readouterr().err


def test_the_chosen_etcd_is_found_by_the_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    lanes.use_etcd(tmp_path / "path")
    assert os.environ["PATH"] == "/usr/bin"
    (tmp_path / "path").write_text("/opt/etcd-3.5/etcd\n", encoding="utf-8")
    lanes.use_etcd(tmp_path / "path")
    assert os.environ["PATH"] == "/opt/etcd-3.5:/usr/bin"


def test_the_kept_restorer_goes_after_the_machines_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    (tmp_path / "path").write_text("/opt/etcd-3.5/etcd\n", encoding="utf-8")
    (tmp_path / "restorer").mkdir()
    lanes.use_etcd(tmp_path / "path")
    assert os.environ["PATH"] == f"/opt/etcd-3.5:/usr/bin:{tmp_path}/restorer"


def test_the_fast_loop_leaves_out_only_what_the_whole_run_has() -> None:
    known = lanes.lanes()
    for name in lanes.GROUPS["unit"]:
        whole = known[name.removeprefix("unit-")]
        assert whole.name in lanes.GROUPS["all"]
        assert known[name].folder == whole.folder
        assert not whole.variables


def test_a_lane_has_its_own_variables(run, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    program = "import os; print(os.environ['GREY_SCHEDULES'], 'passed in 1s')"
    lane = lanes.Lane("a", [sys.executable, "-c", program], variables={"GREY_SCHEDULES": "7"})
    run(b="print('1 passed')")
    monkeypatch.setattr(lanes, "lanes", lambda: {"a": lane})
    assert lanes.main(["a"]) == 0
    assert closing(capsys.readouterr().out) == "7 passed, 0 failed"
