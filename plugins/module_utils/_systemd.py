# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing a host's systemd units and their programs from what runs to what should run.

What counts is the live state: the environment of a unit's process carries the digest of what it was started
with. So an interrupted run is finished by the next one, and a unit that was stopped, masked, disabled, edited
by hand or overridden by a drop-in is put right.
"""

from __future__ import annotations

import re
import time
from functools import partial
from typing import TYPE_CHECKING

from ansible_collections.grey.distributed.plugins.module_utils import (
    _files,
    _processes,
    _systemctl,
    _systemd_files,
)
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Change, GreyError, Outcome
from ansible_collections.grey.distributed.plugins.module_utils._programs import (
    PROGRAM_DIGEST,
    decide,
    written_digest,
)
from ansible_collections.grey.distributed.plugins.module_utils._readiness import await_ready
from ansible_collections.grey.distributed.plugins.module_utils._systemd_unit import unit_file, unit_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible_collections.grey.distributed.plugins.module_utils._files import File
    from ansible_collections.grey.distributed.plugins.module_utils._programs import Condition, Program
    from ansible_collections.grey.distributed.plugins.module_utils._systemctl import UnitState
    from ansible_collections.grey.distributed.plugins.module_utils._systemd_unit import Service

_POLL_SECONDS = 0.05
_STABLE_SECONDS = 1.0
_QUICK_EXITS = 3
_START_SECONDS = 5.0
_STOP_SECONDS = 300.0  # units that are removed have set their own limit, which ends before this
_OUR_UNIT = re.compile(r"(greyd|grey-[a-z0-9-]+)\.service")


class Systemd:
    """The units of one deployment on this host."""

    def __init__(self, service: Service, *, check: bool) -> None:
        self._service = service
        self._check = check
        self._began = time.time()
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
        """Make the programs run as described and wait until they are ready. Other units are left alone.

        ``inputs_changed``: in check mode, an earlier step would have changed a file that they depend on.
        ``defer_restarts``: start what is down, but only name what runs with an older configuration.
        """
        fault = _systemctl.fault()
        if fault is not None:
            raise GreyError(fault)
        units = {item.name: unit_name(item.name) for item in programs}
        files = {item.name: unit_file(self._service, item) for item in programs}
        for unit in units.values():
            _systemd_files.require_own(unit, self._service.instance)
        known = {*units.values(), *_systemd_files.ours(self._service.instance)}
        states = _settle(sorted(known))
        ended = self._end_orphans(states)
        found = {name: _systemd_files.overrides(unit, states[unit].drop_ins) for name, unit in units.items()}
        edited = {name for name, file in files.items() if found[name] or _systemd_files.differs(file)}
        changed = set(units) if self._check and inputs_changed else edited
        plan = decide(
            {name: _condition(states[unit], files[name], name in changed) for name, unit in units.items()},
            anew=False,
            defer=defer_restarts,
        )
        touched = [item for item in programs if item.name not in plan.deferred]
        stale = [item for item in programs if item.name in plan.stale]
        for item in stale:
            self._note(item.name, str(states[units[item.name]]), "running with the present configuration")
        self._stop_edited([item for item in stale if item.name in edited], files, states)
        self._write(touched, files, found, states)
        if not self._check:
            self._restart([units[item.name] for item in stale], states)
            stopping = max((item.stop_seconds for item in stale), default=0)
            self._wait(touched, files, timeout_seconds, stopping)
            self._await_ready(touched, ready_seconds)
            states = _systemctl.show(list(units.values()))
        self._outcome.result = {
            "orphans_ended": ended,
            "deferred": sorted(plan.deferred),
            "programs": {
                name: {
                    "state": states[unit].sub if states[unit].loaded else "absent",
                    "pid": states[unit].pid,
                    "restarted": name in plan.stale,
                }
                for name, unit in units.items()
            },
        }
        return self._outcome

    def absent(self, names: Sequence[str]) -> Outcome:
        """Stop and remove some programs' units; with no names: all of this deployment."""
        instance = self._service.instance
        units = [unit_name(name) for name in names] or self._all_units()
        for unit in units:
            _systemd_files.require_own(unit, instance)
        # Where systemd does not run (a chroot, another manager now), files are all that can be left of it.
        states = _systemctl.show(units) if _systemctl.booted() else {}
        running = [unit for unit, state in states.items() if state.active not in ("inactive", "failed")]
        for unit in running:
            self._note(unit, str(states[unit]), "stopped")
        if running and not self._check:
            _systemctl.stop(running, _STOP_SECONDS)
        removed = []
        for unit in units:
            drop_ins = states[unit].drop_ins if unit in states else ()
            removed += _systemd_files.remove(_systemd_files.traces(unit, drop_ins), check=self._check)
        for change in removed:
            self._outcome.add(change)
        if removed and states and not self._check:
            self._reset_failed(units, _systemctl.show(units))
            _systemctl.reload()
        ended = [] if names else self._end_orphans(states)
        self._outcome.result = {"orphans_ended": ended, "deferred": [], "programs": {}}
        return self._outcome

    def _all_units(self) -> list[str]:
        """Return the units on the disk, and those of processes whose unit file is masked or gone."""
        instance = self._service.instance
        running = (_unit_of(item.pid) for item in _processes.marked(instance))
        return sorted({*_systemd_files.ours(instance), *(unit for unit in running if unit is not None)})

    def _end_orphans(self, states: Mapping[str, UnitState]) -> list[dict[str, object]]:
        """End this deployment's processes that are in no unit, such as those of an earlier supervisord."""
        orphans = [item for item in _processes.marked(self._service.instance) if _unit_of(item.pid) is None]
        for state in states.values():
            orphans = _processes.outside(orphans, state.pid or None)
        for orphan in orphans:
            self._note(f"process {orphan.pid} ({orphan.name})", "in no unit of systemd", "ended")
        if not self._check:
            _processes.end(orphans, self._service.instance, grace_seconds=10.0)
        return [{"pid": orphan.pid, "name": orphan.name} for orphan in orphans]

    def _stop_edited(
        self, programs: Sequence[Program], files: Mapping[str, File], states: Mapping[str, UnitState]
    ) -> None:
        """Stop what was started by a unit that someone edited and that carries the digest of the present one.

        Nothing would tell the next run about it if this one were cut short between repair and restart.
        """
        for item in programs:
            unit = unit_name(item.name)
            if states[unit].runs and _current(states[unit], files[item.name]) and not self._check:
                _systemctl.stop([unit], item.stop_seconds)

    def _write(
        self,
        programs: Sequence[Program],
        files: Mapping[str, File],
        found: Mapping[str, Sequence[str]],
        states: Mapping[str, UnitState],
    ) -> None:
        units = [unit_name(item.name) for item in programs]
        for file in [file for item in programs for file in item.files]:
            self._outcome.add(_files.ensure_file(file, check=self._check))
        changes = []
        for item in programs:
            changes += _systemd_files.write(files[item.name], found[item.name], check=self._check)
        disabled = [unit for unit in units if not _systemd_files.enabled(unit)]
        changes += [Change(f"{unit} at boot", "not started", "started") for unit in disabled]
        if not changes and any(states[unit].reload_needed for unit in units):
            changes = [Change("systemd", "an older version of the unit files", "the present one")]
        for change in changes:
            self._outcome.add(change)
        if changes and not self._check:
            if disabled:
                _systemctl.enable(disabled)
            _systemctl.reload()

    def _restart(self, units: Sequence[str], states: Mapping[str, UnitState]) -> None:
        if units:
            self._reset_failed(units, states)
            _systemctl.restart(units)

    def _reset_failed(self, units: Sequence[str], states: Mapping[str, UnitState]) -> None:
        failed = [unit for unit in units if states[unit].active == "failed"]
        if failed:
            _systemctl.reset_failed(failed)

    def _wait(
        self, programs: Sequence[Program], files: Mapping[str, File], timeout_seconds: float, stopping: float
    ) -> None:
        """Wait until every program runs for a second. Give up early on one that ends again and again.

        ``stopping``: how many seconds more the programs may take to end before they are started again.
        """
        deadline = time.monotonic() + timeout_seconds + stopping
        starts: dict[str, set[float]] = {item.name: set() for item in programs}
        while True:
            states = _systemctl.show([unit_name(item.name) for item in programs])
            waiting = [item.name for item in programs if not _stable(states[unit_name(item.name)])]
            if not waiting:
                break
            for name in waiting:
                state = states[unit_name(name)]
                if state.sub.startswith("auto-restart") and not state.waiting:
                    starts[name].add(state.started)
                if len(starts[name]) >= _QUICK_EXITS or (state.active == "failed" and not state.waiting):
                    times = f"{len(starts[name])} times " if starts[name] else ""
                    found = f"it ended {times}right after its start, with status {state.status}"
                    raise self._failed(name, found)
            if time.monotonic() > deadline:
                raise self._failed(waiting[0], f"{states[unit_name(waiting[0])]} after {timeout_seconds:g} s")
            time.sleep(_POLL_SECONDS)
        for item in programs:
            if not _current(states[unit_name(item.name)], files[item.name]):
                raise self._failed(
                    item.name,
                    "it runs with another configuration: its files changed during this run, or something "
                    "that systemctl cat shows replaces its environment; run again",
                )

    def _await_ready(self, programs: Sequence[Program], ready_seconds: float) -> None:
        for item in filter(lambda item: item.ready, programs):
            found = await_ready(item.ready, ready_seconds, partial(_pid, unit_name(item.name)))
            if found is not None:
                raise self._failed(item.name, found)

    def _failed(self, name: str, found: str) -> GreyError:
        unit = unit_name(name)
        return GreyError(
            f"{name}: wanted it to run, found: {found}. The end of its journal (journalctl --unit={unit}):\n"
            f"{_systemctl.log_tail(unit, self._began)}",
            program=name,
            log=f"journalctl --unit={unit}",
        )

    def _note(self, subject: str, before: str, after: str) -> None:
        self._outcome.add(Change(subject, before, after))


def _settle(units: Sequence[str]) -> dict[str, UnitState]:
    """Return the state of units once none of them is between the making of its process and its program."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        states = _systemctl.show(units)
        if not any(state.starts for state in states.values()) or time.monotonic() > deadline:
            return states
        time.sleep(_POLL_SECONDS)


def _condition(state: UnitState, file: File, changed: bool) -> Condition:
    if not state.runs:
        return "down"
    return "current" if not changed and _current(state, file) else "outdated"


def _current(state: UnitState, file: File) -> bool:
    return (_processes.environment(state.pid) or {}).get(PROGRAM_DIGEST) == written_digest(file)


def _pid(unit: str) -> int:
    return _systemctl.show([unit])[unit].pid


def _stable(state: UnitState) -> bool:
    running = (state.active, state.sub) == ("active", "running") and state.pid > 0 and not state.waiting
    return running and time.monotonic() - state.started >= _STABLE_SECONDS


def _unit_of(pid: int) -> str | None:
    """Return the unit of ours that a process is in."""
    return next((name for name in _processes.cgroups(pid) if _OUR_UNIT.fullmatch(name)), None)
