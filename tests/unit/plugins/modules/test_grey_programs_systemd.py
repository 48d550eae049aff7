# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import (
    _processes,
    _systemctl,
    _systemd,
    _systemd_files,
    _systemd_unit,
)
from ansible_collections.grey.distributed.tests.unit.harness import ROOT, Script, fails, passes, program, tree

MODULE = "grey_programs"


class Host:
    """A folder in which a fake systemd keeps its state, and the module's parameters for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.units = root / "etc"
        self.input = root / "input"
        self.input.write_text("one")
        for name in ("etc", "control", "run"):
            (root / name).mkdir()
        body = f"""import sys
sys.path.insert(0, {str(ROOT / "tests" / "unit")!r})
import fake_systemd
fake_systemd.main(fake_systemd.Path({str(root)!r}), sys.argv[0].rpartition("/")[2], sys.argv[1:])
"""
        self.systemctl = program(root / "systemctl", body)
        self.journalctl = program(root / "journalctl", body)

    def args(self, *names: str, **changed: Any) -> dict[str, Any]:
        return {
            "manager": {"kind": "systemd", "root": str(self.root), "run_dir": f"{self.root}/run"},
            "programs": [self.program(name) for name in names],
            **changed,
        }

    def program(self, name: str, *command: str) -> dict[str, Any]:
        return {
            "name": name,
            "command": list(command) or [shutil.which("sleep"), "1000"],
            "stop_seconds": 2,
            "depends_on": [str(self.input)],
            "files": [{"path": f"{self.root}/{name}.yaml", "content": "a: 1\n"}],
        }

    def pids(self) -> set[int]:
        return {item.pid for item in _processes.marked(str(self.root))}

    def state(self) -> Any:
        configuration = sorted((path.name, path.read_text()) for path in self.root.glob("*.yaml"))
        return self.pids(), tree(self.units), tree(self.root / "control"), configuration

    def calls(self) -> list[str]:
        """Return what systemctl was asked to change since the last time."""
        file = self.root / "calls"
        said = file.read_text().splitlines() if file.exists() else []
        file.write_text("")
        return said

    def run(self, *words: str) -> None:
        subprocess.run([self.systemctl, *words], check=True, timeout=20, stdout=subprocess.DEVNULL)
        self.calls()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    host = Host(tmp_path)
    monkeypatch.setattr(_systemctl, "SYSTEMCTL", host.systemctl)
    monkeypatch.setattr(_systemctl, "JOURNALCTL", host.journalctl)
    monkeypatch.setattr(_systemctl, "BOOTED", tmp_path)
    monkeypatch.setattr(_systemd_unit, "UNIT_DIR", host.units)
    monkeypatch.setattr(_systemd_files, "OVERRIDING", (tmp_path / "control",))
    monkeypatch.setattr(_systemd, "_STABLE_SECONDS", 0.1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    try:
        yield host
    finally:
        # The fake starts again what dies, but only while it is asked.
        _processes.end(_processes.marked(str(tmp_path)), str(tmp_path), grace_seconds=5.0)


def started(host: Host) -> int:
    """Have greyd run; return its number."""
    pid: int = passes(MODULE, host.args("greyd"))["programs"]["greyd"]["pid"]
    host.calls()
    return pid


def fail(host: Host) -> None:
    """Leave greyd's unit as systemd does when it gave up on it."""
    [pid] = host.pids()
    file = host.root / "state.json"
    state = json.loads(file.read_text())
    state["runs"]["greyd.service"]["failed"] = True
    file.write_text(json.dumps(state))
    os.kill(pid, signal.SIGKILL)


def repaired(host: Host) -> tuple[int, list[str]]:
    """Run against a host that is not as it should be; return greyd's number and what systemd was asked."""
    foreseen = passes(MODULE, host.args("greyd"), check=True)
    assert foreseen["changed"]
    assert host.calls() == []
    answer = passes(MODULE, host.args("greyd"))
    assert [part["before_header"] for part in answer["diff"]] == [
        part["before_header"] for part in foreseen["diff"]
    ]
    calls = host.calls()
    assert not passes(MODULE, host.args("greyd"))["changed"]
    assert host.calls() == []
    return answer["programs"]["greyd"]["pid"], calls


def test_script(host: Host) -> None:
    changed = host.args("greyd", "engine")
    changed["programs"][0]["files"][0]["content"] = "a: 2\n"
    Script(
        MODULE,
        host.state,
        wrong=[
            ({"manager": {"kind": "systemd"}}, "missing required arguments: run_dir found in manager"),
            (
                {"manager": {"kind": "cron", "run_dir": "/x"}},
                "value of kind must be one of: systemd, supervisor, got: cron found in manager",
            ),
            (
                host.args(programs=[{"name": "Wrong Name", "command": ["/bin/true"]}]),
                "programs: wanted a name of small letters, digits and -, found 'Wrong Name'",
            ),
            (host.args(programs=[{"name": "empty"}]), "programs: empty: wanted a command, found none"),
            (
                host.args(programs=[{"name": "greyd", "command": ["greyd", "run"]}]),
                "programs: greyd: wanted an absolute path of its program, found 'greyd'",
            ),
        ],
        create=host.args("greyd", "engine"),
        update=changed,
        absent=host.args(state="absent"),
    ).play()
    assert host.pids() == set()
    assert [path.name for path in host.units.iterdir()] == ["multi-user.target.wants"]
    assert list((host.units / "multi-user.target.wants").iterdir()) == []


def test_a_changed_input_restarts_only_what_depends_on_it(host: Host) -> None:
    both = host.args("greyd", "engine")
    both["programs"][1]["depends_on"] = []
    before = passes(MODULE, both)["programs"]
    assert host.calls() == [
        "enable greyd.service grey-engine.service",
        "daemon-reload ",
        "restart greyd.service grey-engine.service",
    ]
    host.input.write_text("two")
    after = passes(MODULE, both)["programs"]
    assert host.calls() == ["daemon-reload ", "restart greyd.service"]
    assert after["greyd"]["restarted"]
    assert after["greyd"]["pid"] != before["greyd"]["pid"]
    assert after["engine"] == {**before["engine"], "restarted": False}
    assert not passes(MODULE, both)["changed"]
    assert host.calls() == []


def test_an_input_that_check_mode_only_foresees(host: Host) -> None:
    started(host)
    assert passes(MODULE, host.args("greyd", inputs_changed=True), check=True)["changed"]
    assert not passes(MODULE, host.args("greyd", inputs_changed=True))["changed"]


def test_restarts_can_be_left_to_the_play(host: Host) -> None:
    before = started(host)
    host.input.write_text("two")
    drop_in = host.units / "greyd.service.d" / "mine.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\n")
    files = tree(host.units)
    deferred = passes(MODULE, host.args("greyd", defer_restarts=True))
    assert deferred["deferred"] == ["greyd"]
    assert not deferred["changed"]
    assert tree(host.units) == files
    os.kill(before, signal.SIGKILL)
    # What does not run is started at once.
    answer = passes(MODULE, host.args("greyd", defer_restarts=True))
    assert answer["deferred"] == []
    assert answer["programs"]["greyd"]["restarted"]


def test_what_was_stopped_or_failed_is_started(host: Host) -> None:
    started(host)
    host.run("stop", "greyd.service")
    assert repaired(host)[1] == ["restart greyd.service"]
    fail(host)
    assert repaired(host)[1] == ["reset-failed greyd.service", "restart greyd.service"]


def test_what_was_killed_is_started_by_systemd_or_by_the_run(host: Host) -> None:
    before = started(host)
    os.kill(before, signal.SIGKILL)
    assert passes(MODULE, host.args("greyd"))["programs"]["greyd"]["pid"] not in (0, before)
    assert not passes(MODULE, host.args("greyd"))["changed"]


def test_a_disabled_unit_is_enabled_without_a_restart(host: Host) -> None:
    before = started(host)
    (host.units / "multi-user.target.wants" / "greyd.service").unlink()
    assert repaired(host) == (before, ["enable greyd.service", "daemon-reload "])


def test_a_masked_unit_is_repaired(host: Host) -> None:
    before = started(host)
    file = host.units / "greyd.service"
    file.unlink()
    file.symlink_to("/dev/null")
    pid, calls = repaired(host)
    assert pid != before
    assert calls == ["stop greyd.service", "daemon-reload ", "restart greyd.service"]
    (host.root / "control" / "greyd.service").symlink_to("/dev/null")
    host.run("daemon-reload")
    assert repaired(host)[0] != pid
    assert tree(host.root / "control") == {}


@pytest.mark.parametrize("loaded", [False, True])
def test_a_unit_that_was_edited_is_repaired_and_its_process_started_anew(host: Host, loaded: bool) -> None:
    before = started(host)
    file = host.units / "greyd.service"
    file.write_text(file.read_text().replace("LimitNOFILE=65536", "LimitNOFILE=64"))
    if loaded:
        host.run("daemon-reload")
        host.run("restart", "greyd.service")
    # Stopped first: cut short after the repair, the digest of the process would say that all is well.
    pid, calls = repaired(host)
    assert pid != before
    assert calls == ["stop greyd.service", "daemon-reload ", "restart greyd.service"]
    assert "LimitNOFILE=65536" in file.read_text()


def test_drop_ins_of_the_unit_are_removed_but_not_those_for_all_services(host: Host) -> None:
    started(host)
    for folder in (host.units / "greyd.service.d", host.root / "control" / "greyd.service.d"):
        folder.mkdir()
        (folder / "override.conf").write_text('[Service]\nEnvironment="GREY_PROGRAM_DIGEST=0"\n')
    everyone = host.units / "service.d" / "site.conf"
    everyone.parent.mkdir()
    everyone.write_text("")
    host.run("daemon-reload")
    assert repaired(host)[1] == ["stop greyd.service", "daemon-reload ", "restart greyd.service"]
    assert not (host.units / "greyd.service.d").exists()
    assert tree(host.root / "control") == {}
    assert everyone.exists()


def test_a_run_that_was_cut_short_is_finished(host: Host) -> None:
    before = started(host)
    old = (host.units / "greyd.service").read_text()
    host.input.write_text("two")
    passes(MODULE, host.args("greyd"))
    new = (host.units / "greyd.service").read_text()
    (host.units / "greyd.service").write_text(old)
    host.run("daemon-reload")
    host.run("restart", "greyd.service")
    # What is left of a run that ended after the file was written: the new file, and the old process.
    (host.units / "greyd.service").write_text(new)
    pid, calls = repaired(host)
    assert pid != before
    assert calls == ["daemon-reload ", "restart greyd.service"]
    # And of one that ended after systemd had read it.
    (host.units / "greyd.service").write_text(old)
    host.run("daemon-reload")
    host.run("restart", "greyd.service")
    (host.units / "greyd.service").write_text(new)
    host.run("daemon-reload")
    assert repaired(host)[1] == ["restart greyd.service"]


def test_unit_files_that_systemd_has_not_read_are_read(host: Host) -> None:
    before = started(host)
    file = host.units / "greyd.service"
    text = file.read_text()
    file.write_text(text + "# edited, and put back\n")
    host.run("daemon-reload")
    file.write_text(text)
    assert repaired(host) == (before, ["daemon-reload "])


def test_a_program_that_ends_at_once_shows_its_journal(host: Host) -> None:
    failing = host.program("greyd", sys.executable, "-c", "print(8080*8080); raise SystemExit(7)")
    answer = host.args(programs=[failing])
    message = fails(MODULE, answer)
    assert message.startswith(
        "greyd: wanted it to run, found: it ended 3 times right after its start, with status 7. The end of "
        "its journal (journalctl --unit=greyd.service):\n"
    )
    assert "65286400" in message


def test_a_program_that_does_not_come_up_in_time(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_systemd, "_STABLE_SECONDS", 60.0)
    args = host.args("greyd", timeout=0)
    args["programs"][0]["stop_seconds"] = 0
    message = fails(MODULE, args)
    assert message.startswith("greyd: wanted it to run, found: active (running) after 0 s.")


def test_the_unit_of_another_deployment_is_left_alone(host: Host) -> None:
    started(host)
    files = tree(host.units)
    other = host.args("greyd")
    other["manager"]["root"] = "/srv/other"
    expected = (
        f"{host.units}/greyd.service: wanted the unit of the deployment under /srv/other, found that of the "
        f"one under {host.root}; a host runs one under systemd: tear that down, or set "
        "grey_program_manager=supervisor for this one"
    )
    assert fails(MODULE, other) == expected
    assert fails(MODULE, {**other, "state": "absent"}) == expected
    assert not passes(MODULE, {**other, "state": "absent", "programs": []})["changed"]
    assert tree(host.units) == files


def test_a_host_without_systemd_or_root_is_told_what_to_do(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert fails(MODULE, host.args("greyd")).startswith("systemd: wanted root, whose units these are, found")
    monkeypatch.setattr(_systemctl, "BOOTED", host.root / "none")
    assert fails(MODULE, host.args("greyd"), check=True) == (
        f"systemd: wanted it to run this host, found no {host.root}/none; for a host without it set "
        "grey_program_manager=supervisor"
    )
    assert not passes(MODULE, host.args(state="absent"))["changed"]


def test_what_an_earlier_supervisord_left_is_ended(host: Host) -> None:
    orphan = subprocess.Popen(["/bin/sleep", "1000"], env={_processes.MARKER: str(host.root)})
    foreseen = passes(MODULE, host.args("greyd"), check=True)
    assert [item["pid"] for item in foreseen["orphans_ended"]] == [orphan.pid]
    answer = passes(MODULE, host.args("greyd"))
    assert [item["pid"] for item in answer["orphans_ended"]] == [orphan.pid]
    assert orphan.wait(5) != 0
    assert not passes(MODULE, host.args("greyd"))["changed"]


def test_one_program_leaves_and_the_other_stays(host: Host) -> None:
    both = passes(MODULE, host.args("greyd", "engine"))["programs"]
    gone = host.args("engine", state="absent")
    assert passes(MODULE, gone, check=True)["changed"]
    host.calls()
    assert passes(MODULE, gone)["changed"]
    assert host.calls() == ["stop grey-engine.service", "daemon-reload "]
    assert not passes(MODULE, gone)["changed"]
    assert host.calls() == []
    assert host.pids() == {both["greyd"]["pid"]}
    assert not passes(MODULE, host.args("greyd"))["changed"]


def test_what_is_removed_is_gone_with_its_overrides(host: Host) -> None:
    started(host)
    folder = host.units / "greyd.service.d"
    folder.mkdir()
    (folder / "override.conf").write_text("[Service]\n")
    fail(host)
    assert passes(MODULE, host.args(state="absent"))["changed"]
    assert not folder.exists()
    assert not (host.units / "greyd.service").exists()
    assert host.calls() == ["reset-failed greyd.service", "daemon-reload "]
    assert host.pids() == set()


def test_what_runs_without_its_unit_file_is_removed_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = started(host)
    (host.units / "greyd.service").unlink()
    monkeypatch.setattr(_processes, "cgroups", lambda _pid: ["system.slice", "greyd.service"])
    assert passes(MODULE, host.args(state="absent"))["changed"]
    assert pid not in host.pids()
    assert list((host.units / "multi-user.target.wants").iterdir()) == []
    assert not passes(MODULE, host.args(state="absent"))["changed"]
