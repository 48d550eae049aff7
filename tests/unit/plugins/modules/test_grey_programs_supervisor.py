# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _processes
from ansible_collections.grey.distributed.tests.unit.harness import Script, fails, passes

SUPERVISORD = shutil.which("supervisord", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
ME = pwd.getpwuid(os.geteuid()).pw_name
pytestmark = pytest.mark.skipif(SUPERVISORD is None, reason="supervisord is not installed here")


class Host:
    """A root folder with supervisord's folders, and the module's parameters for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.input = root / "input"
        self.input.write_text("one")
        for name in ("etc", "log", "run"):
            (root / name).mkdir()

    def args(self, *names: str, manager: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
        return {
            "manager": {
                "kind": "supervisor",
                "root": str(self.root),
                "config_file": f"{self.root}/etc/supervisord.conf",
                "log_dir": f"{self.root}/log",
                "run_dir": f"{self.root}/run",
                "supervisord": SUPERVISORD,
                **(manager or {}),
            },
            "programs": [self.program(name) for name in names],
            **changed,
        }

    def program(self, name: str, *command: str) -> dict[str, Any]:
        return {
            "name": name,
            "command": list(command) or ["/bin/sleep", "1000"],
            "stop_seconds": 2,
            "depends_on": [str(self.input)],
            "files": [{"path": f"{self.root}/etc/{name}.yaml", "content": "a: 1\n"}],
        }

    def pids(self) -> dict[str, int]:
        found = _processes.marked(str(self.root))
        return {item.name: item.pid for item in found}

    def state(self) -> Any:
        files = {
            path.name: path.read_text() for path in sorted((self.root / "etc").rglob("*")) if path.is_file()
        }
        return self.pids(), files

    def kill_supervisord(self) -> None:
        pid = self.pids()["supervisord"]
        os.kill(pid, signal.SIGKILL)
        assert _processes.wait_end(pid, 5)


@pytest.fixture
def host() -> Iterator[Host]:
    # Not tmp_path: a unix socket's path may have 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="gs-") as folder:
        host = Host(Path(folder))
        try:
            yield host
        finally:
            _processes.end(_processes.marked(folder), folder, grace_seconds=5.0)


def test_script(host: Host) -> None:
    changed = host.args("sleeper")
    changed["programs"][0]["files"][0]["content"] = "a: 2\n"
    Script(
        "grey_programs",
        host.state,
        wrong=[
            ({}, "missing required arguments: manager"),
            (
                {"manager": {"kind": "supervisor", "run_dir": "/x", "config_file": "/x/y"}},
                "kind is supervisor but all of the following are missing: log_dir found in manager",
            ),
            (
                host.args(manager={"supervisord": None}),
                "manager: wanted supervisord, the program, for kind supervisor; found none",
            ),
            (
                host.args(manager={"user": "nobody-of-grey"}),
                (
                    "user: wanted to connect as nobody-of-grey, whom supervisord and its programs then run "
                    f"as, found {ME}; connect as nobody-of-grey, or leave grey_user empty"
                ),
            ),
            (
                host.args(programs=[{"name": "Wrong Name", "command": ["/bin/true"]}]),
                "programs: wanted a name of small letters, digits and -, found 'Wrong Name'",
            ),
            (
                host.args(programs=[{"name": "empty"}]),
                "programs: empty: wanted a command, found none",
            ),
        ],
        create=host.args("sleeper"),
        update=changed,
        absent=host.args(state="absent"),
    ).play()
    assert host.pids() == {}
    assert list((host.root / "run").iterdir()) == []


def test_a_changed_input_restarts_only_what_depends_on_it(host: Host) -> None:
    both = host.args("a", "b")
    both["programs"][1]["depends_on"] = []
    before = passes("grey_programs", both)["programs"]
    host.input.write_text("two")
    after = passes("grey_programs", both)["programs"]
    assert after["a"]["restarted"]
    assert after["a"]["pid"] != before["a"]["pid"]
    assert after["b"] == {**before["b"], "restarted": False}
    assert not passes("grey_programs", both)["changed"]


def test_an_input_that_check_mode_only_foresees(host: Host) -> None:
    passes("grey_programs", host.args("a"))
    assert passes("grey_programs", host.args("a", inputs_changed=True), check=True)["changed"]
    assert not passes("grey_programs", host.args("a", inputs_changed=True))["changed"]


def test_restarts_can_be_left_to_the_play(host: Host) -> None:
    before = passes("grey_programs", host.args("a", "b"))
    os.kill(before["programs"]["b"]["pid"], signal.SIGSTOP)
    host.input.write_text("two")
    deferred = passes("grey_programs", host.args("a", "b", defer_restarts=True))
    assert deferred["deferred"] == ["a", "b"]
    assert not deferred["changed"]
    assert deferred["programs"]["a"]["pid"] == before["programs"]["a"]["pid"]
    restarted = passes("grey_programs", host.args("a", "b"))
    assert restarted["deferred"] == []
    assert restarted["programs"]["a"]["pid"] != before["programs"]["a"]["pid"]


def test_a_supervisord_with_an_older_configuration_is_started_anew(host: Host) -> None:
    passes("grey_programs", host.args("a"))
    old = host.pids()
    (host.root / "log2").mkdir()
    changed = host.args("a", manager={"log_dir": f"{host.root}/log2"})
    assert passes("grey_programs", {**changed, "defer_restarts": True})["deferred"] == ["a"]
    assert host.pids() == old
    assert passes("grey_programs", changed)["changed"]
    assert host.pids()["supervisord"] != old["supervisord"]
    assert not passes("grey_programs", changed)["changed"]


def test_another_program_joins_and_leaves(host: Host) -> None:
    first = passes("grey_programs", host.args("a"))["programs"]["a"]["pid"]
    assert passes("grey_programs", host.args("b"))["changed"]
    assert not passes("grey_programs", host.args("a"))["changed"]
    gone = host.args("b", state="absent")
    assert passes("grey_programs", gone, check=True)["changed"]
    assert passes("grey_programs", gone)["changed"]
    assert not passes("grey_programs", gone)["changed"]
    assert passes("grey_programs", host.args("a"))["programs"]["a"]["pid"] == first


def test_a_stopped_program_is_started_again(host: Host) -> None:
    from ansible_collections.grey.distributed.plugins.module_utils._supervisor_rpc import SupervisorClient

    passes("grey_programs", host.args("a"))
    SupervisorClient(host.root / "run" / "supervisor.sock").stop("a", 5.0)
    assert passes("grey_programs", host.args("a"), check=True)["changed"]
    answer = passes("grey_programs", host.args("a"))
    assert answer["changed"]
    assert answer["programs"]["a"]["state"] == "RUNNING"


def test_a_killed_supervisords_orphans_are_ended(host: Host) -> None:
    before = passes("grey_programs", host.args("a"))["programs"]["a"]["pid"]
    host.kill_supervisord()
    foreseen = passes("grey_programs", host.args("a"), check=True)
    assert [item["pid"] for item in foreseen["orphans_ended"]] == [before]
    assert host.pids() == {"sleep": before}
    answer = passes("grey_programs", host.args("a"))
    assert [item["pid"] for item in answer["orphans_ended"]] == [before]
    assert host.pids()["sleep"] == answer["programs"]["a"]["pid"] != before
    assert not passes("grey_programs", host.args("a"))["changed"]


def test_everything_is_removed_though_supervisord_was_killed(host: Host) -> None:
    passes("grey_programs", host.args("a"))
    host.kill_supervisord()
    assert passes("grey_programs", host.args(state="absent"))["changed"]
    assert host.pids() == {}
    assert not passes("grey_programs", host.args(state="absent"))["changed"]


def test_a_run_that_was_cut_short_before_the_restart_is_repaired(host: Host) -> None:
    passes("grey_programs", host.args("a"))
    conf = host.root / "etc" / "programs" / "a.conf"
    old = passes("grey_programs", host.args("a"))["programs"]["a"]["pid"]
    host.input.write_text("two")
    from ansible_collections.grey.distributed.plugins.module_utils import _files, _programs, _supervisor_conf

    # What an interrupted run leaves: the new file, and the old process.
    program = host.program("a")
    files = tuple(_files.File(item["path"], item["content"], 0o644) for item in program["files"])
    layout = _supervisor_conf.Layout(
        str(host.root), f"{host.root}/log", f"{host.root}/run", f"{host.root}/etc/supervisord.conf"
    )
    wanted = _programs.Program("a", tuple(program["command"]), 100, 2, (str(host.input),), files)
    conf.write_text(_supervisor_conf.program_file(layout, wanted).content)
    answer = passes("grey_programs", host.args("a"))
    assert answer["programs"]["a"]["restarted"]
    assert answer["programs"]["a"]["pid"] != old
    assert not passes("grey_programs", host.args("a"))["changed"]


def test_a_program_that_ends_at_once_shows_its_log(host: Host) -> None:
    failing = host.program("greyd", sys.executable, "-c", "print(8080*8080)")
    message = fails("grey_programs", host.args(programs=[failing]))
    assert message.startswith(
        "greyd: wanted it to run, found: it ended 3 times right after its start. The end of "
    )
    assert "65286400" in message


def test_a_wrong_supervisord_is_named(host: Host) -> None:
    message = fails("grey_programs", host.args("a", manager={"supervisord": f"{host.root}/none"}))
    assert message.startswith(f"{host.root}/none: wanted a program that can be started, found: No such file")
