# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing a host's supervisord and its programs from what runs to what should run.

What counts is the live state: the environment of the running processes carries the digest of what they were
started with, so an interrupted run, a killed supervisord or a stopped program is seen by the next run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ansible_collections.grey.distributed.plugins.module_utils import _files, _processes
from ansible_collections.grey.distributed.plugins.module_utils import _supervisor_conf as conf
from ansible_collections.grey.distributed.plugins.module_utils._command import run
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Change, GreyError, Outcome
from ansible_collections.grey.distributed.plugins.module_utils._programs import (
    PROGRAM_DIGEST,
    decide,
    digest,
    written_digest,
)
from ansible_collections.grey.distributed.plugins.module_utils._readiness import await_ready
from ansible_collections.grey.distributed.plugins.module_utils._supervisor_rpc import (
    ProgramState,
    SupervisorClient,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ansible_collections.grey.distributed.plugins.module_utils._programs import Condition, Program

_POLL_SECONDS = 0.05
_SHUTDOWN_SECONDS = 60.0
_QUICK_EXITS = 3
_LOG_TAIL_BYTES = 2000


@dataclass(frozen=True)
class Live:
    """The supervisord that answers, and the digest of the configuration it was started with."""

    pid: int
    digest: str


class Supervisor:
    """One instance of supervisord on this host."""

    def __init__(self, layout: conf.Layout, binary: str, *, check: bool) -> None:
        self._layout = layout
        self._binary = binary
        self._check = check
        self._client = SupervisorClient(layout.socket)
        self._outcome = Outcome()

    def present(
        self,
        programs: Sequence[Program],
        *,
        timeout_seconds: float,
        ready_seconds: float,
        inputs_changed: bool,
        defer_restarts: bool,
    ) -> Outcome:
        """Make the programs run as described and wait until they are ready. Other programs are left alone.

        ``inputs_changed``: in check mode, an earlier step would have changed a file that they depend on.
        ``defer_restarts``: start what is down, but only name what runs with an older configuration.
        """
        own_file = conf.supervisor_file(self._layout)
        files = {item.name: conf.program_file(self._layout, item) for item in programs}
        live = self._live()
        ended = self._end_orphans(live)
        states = self._client.programs() if live is not None else {}
        plan = decide(
            {
                item.name: self._condition(states.get(item.name), files[item.name], inputs_changed)
                for item in programs
            },
            anew=live is not None and live.digest != digest(own_file.content),
            defer=defer_restarts and any(map(_runs, states.values())),
        )
        if plan.anew and live is not None:
            self._note("supervisord", f"running, configuration {live.digest}", "to be started anew")
            self._shut_down(live)
            live = None
        touched = [item for item in programs if item.name not in plan.deferred]
        self._write(own_file if not plan.deferred else None, touched, files)
        stale = [item for item in programs if item.name in plan.stale]
        for item in stale:
            self._note(item.name, _shown(states.get(item.name)), "running with the present configuration")
        if live is None:
            self._note("supervisord", "not running", "running")
            self._start(own_file)
        elif stale and not self._check:
            self._apply(stale, states)
        if not self._check:
            self._wait(touched, files, timeout_seconds)
            self._await_ready(touched, ready_seconds)
            states = self._client.programs()
        self._outcome.result = {
            "orphans_ended": ended,
            "deferred": sorted(plan.deferred),
            "programs": {
                item.name: {
                    "state": states[item.name].state if item.name in states else "ABSENT",
                    "pid": states[item.name].pid if item.name in states else 0,
                    "restarted": item in stale,
                }
                for item in programs
            },
        }
        return self._outcome

    def absent(self, names: Sequence[str]) -> Outcome:
        """Stop and forget some programs; with no names: all of them and supervisord itself."""
        live = self._live()
        if names:
            self._remove_programs(live, names)
            self._outcome.result = {"orphans_ended": [], "deferred": [], "programs": {}}
            return self._outcome
        if live is not None:
            self._note("supervisord", "running", "not running")
            self._shut_down(live)
        ended = self._end_orphans(None if not self._check else live)
        for path in (self._layout.programs_dir, self._layout.config_file):
            self._outcome.add(_files.ensure_absent(str(path), check=self._check))
        self._outcome.result = {"orphans_ended": ended, "deferred": [], "programs": {}}
        return self._outcome

    def _live(self) -> Live | None:
        try:
            pid = self._client.pid()
        except GreyError:
            return None
        marks = _processes.environment(pid) or {}
        if marks.get(_processes.MARKER) != self._layout.instance:
            raise GreyError(
                f"{self._layout.socket}: wanted the supervisord of {self._layout.instance}, found process "
                f"{pid} "
                "of another deployment or user; stop it, or choose another root folder"
            )
        return Live(pid, marks.get(conf.SUPERVISOR_DIGEST, "unknown"))

    def _end_orphans(self, live: Live | None) -> list[dict[str, object]]:
        """End what an earlier supervisord left behind, or one that does not answer any more."""
        orphans = _processes.outside(
            _processes.marked(self._layout.instance), live.pid if live is not None else None
        )
        for orphan in orphans:
            self._note(
                f"process {orphan.pid} ({orphan.name})", "left over from an earlier supervisord", "ended"
            )
        if not self._check:
            _processes.end(orphans, self._layout.instance, grace_seconds=10.0)
            if live is None:
                for path in self._leavings():
                    path.unlink(missing_ok=True)
        return [{"pid": orphan.pid, "name": orphan.name} for orphan in orphans]

    def _leavings(self) -> list[Path]:
        return [self._layout.socket, self._layout.pid_file]

    def _write(
        self,
        own_file: _files.File | None,
        programs: Sequence[Program],
        files: Mapping[str, _files.File],
    ) -> None:
        folder = _files.Folder(str(self._layout.programs_dir), 0o700)
        self._outcome.add(_files.ensure_folder(folder, check=self._check))
        inputs = [file for item in programs for file in item.files]
        for file in [*([own_file] if own_file else []), *inputs, *(files[item.name] for item in programs)]:
            self._outcome.add(_files.ensure_file(file, check=self._check))

    def _condition(self, state: ProgramState | None, file: _files.File, inputs_changed: bool) -> Condition:
        if state is None or not _runs(state):
            return "down"
        if (self._check and inputs_changed) or not self._current(state, written_digest(file)):
            return "outdated"
        return "current"

    def _current(self, state: ProgramState, digest: str) -> bool:
        return (_processes.environment(state.pid) or {}).get(PROGRAM_DIGEST) == digest

    def _start(self, own_file: _files.File) -> None:
        if self._check:
            return
        answer = run(
            (self._binary, "-c", self._layout.config_file),
            timeout_seconds=20.0,
            environment={
                _processes.MARKER: self._layout.instance,
                conf.SUPERVISOR_DIGEST: digest(own_file.content),
            },
        )
        if answer.code != 0:
            raise GreyError(
                f"{self._binary} -c {self._layout.config_file}: wanted supervisord to start, "
                f"found exit {answer.code}: {answer.said()}"
            )
        deadline = time.monotonic() + 10.0
        while True:
            try:
                self._client.pid()
            except GreyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _apply(self, stale: Sequence[Program], states: dict[str, ProgramState]) -> None:
        added, changed, _removed = self._client.reload()
        for program in stale:
            if program.name in added:
                self._client.add(program.name)
            elif program.name in changed:
                self._client.stop(program.name, program.stop_seconds)
                self._client.remove(program.name)
                self._client.add(program.name)
            else:
                # Stopped by hand, waiting out a backoff, or started before its file was written.
                if states[program.name].state in ("RUNNING", "STARTING", "BACKOFF", "STOPPING"):
                    self._client.stop(program.name, program.stop_seconds)
                self._client.start(program.name)

    def _wait(
        self, programs: Sequence[Program], files: dict[str, _files.File], timeout_seconds: float
    ) -> None:
        """Wait until every program runs. Give up early on one that ends again and again after its start."""
        deadline = time.monotonic() + timeout_seconds
        starts: dict[str, set[int]] = {program.name: set() for program in programs}
        while True:
            states = self._client.programs()
            waiting = [
                program.name
                for program in programs
                if states.get(program.name) is None or states[program.name].state != "RUNNING"
            ]
            if not waiting:
                break
            for name in waiting:
                state = states.get(name)
                if state is not None and state.state == "BACKOFF":
                    starts[name].add(state.start)
                if len(starts[name]) >= _QUICK_EXITS or (state is not None and state.state == "FATAL"):
                    raise self._failed(name, f"it ended {len(starts[name])} times right after its start")
            if time.monotonic() > deadline:
                raise self._failed(
                    waiting[0], f"{_shown(states.get(waiting[0]))} after {timeout_seconds:g} s"
                )
            time.sleep(_POLL_SECONDS)
        for program in programs:
            if not self._current(states[program.name], written_digest(files[program.name])):
                raise self._failed(
                    program.name,
                    "it runs with an older configuration: its files changed during this run; run again",
                )

    def _await_ready(self, programs: Sequence[Program], ready_seconds: float) -> None:
        for item in filter(lambda item: item.ready, programs):
            found = await_ready(item.ready, ready_seconds, partial(self._pid, item.name))
            if found is not None:
                raise self._failed(item.name, found)

    def _pid(self, name: str) -> int:
        return self._client.programs()[name].pid

    def _failed(self, name: str, found: str) -> GreyError:
        log = self._layout.log_file(name)
        return GreyError(
            f"{name}: wanted it to run, found: {found}. The end of {log}:\n{_tail(log)}",
            program=name,
            log=str(log),
        )

    def _remove_programs(self, live: Live | None, names: Sequence[str]) -> None:
        states = self._client.programs() if live is not None else {}
        for name in names:
            path = self._layout.programs_dir / f"{name}.conf"
            gone = _files.ensure_absent(str(path), check=self._check)
            if not self._outcome.add(gone) and name in states:
                self._note(name, _shown(states[name]), "stopped")
            if name in states and not self._check:
                self._client.stop(name, 60.0)
                self._client.remove(name)
                self._client.reload()

    def _shut_down(self, live: Live) -> None:
        """Let supervisord stop its programs and end; if it takes too long, end it."""
        if self._check:
            return
        self._client.shutdown()
        _processes.wait_end(live.pid, _SHUTDOWN_SECONDS)
        _processes.end(_processes.marked(self._layout.instance), self._layout.instance, grace_seconds=10.0)

    def _note(self, subject: str, before: str, after: str) -> None:
        self._outcome.add(Change(subject, before, after))


def _runs(state: ProgramState) -> bool:
    return state.state in ("RUNNING", "STARTING") and bool(state.pid)


def _shown(state: ProgramState | None) -> str:
    if state is None:
        return "not known to supervisord"
    return state.state + (f" ({state.problem})" if state.problem else "")


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace").strip() or "(empty)"
    except OSError as error:
        return f"({error.strerror})"
