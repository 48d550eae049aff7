# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What greyd and grey-ctl are asked to do, and what their answers mean."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils._command import Answer, run, user_exists
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Change, GreyError, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WRONG_FILE = 2
_REFUSED = 3
_NOBODY = 4
_INIT_SECONDS = 60.0
_ASK_SECONDS = 30.0
_POLL_SECONDS = 0.25


def init(greyd: str, config: str, *, check: bool, user: str = "") -> Outcome:
    """Make a node's empty data store and identity, once, as ``user`` when one is named."""
    if check and not Path(config).exists():
        return Outcome({"data_id": None}, [Change("data store", "", "empty, with a new identity")])
    command = [greyd, "init", *(["--check"] if check else []), "--config", config]
    if check and user and not user_exists(user):
        user = ""  # an earlier step would make that user; who asks now is of no matter
    answer = run(command, timeout_seconds=_INIT_SECONDS, user=user)
    if answer.code == _REFUSED:
        raise GreyError(
            f"the state on this host was refused, nothing was changed: {answer.said()}", refused=True
        )
    if answer.code != 0:
        raise GreyError(f"greyd init --config {config}: wanted exit 0, found {answer.code}: {answer.said()}")
    said = answer.object()
    outcome = Outcome({"data_id": said.get("data_id")})
    if said.get("changed"):
        outcome.add(Change("data store", "", "empty, with a new identity"))
    return outcome


def readable(greyd: str, config: str, *, user: str = "") -> Outcome:
    """Require that a greyd can read the node's file and the federation file; change nothing."""
    # Every release has this command, and it reads the files before anything else.
    answer = run([greyd, "init", "--check", "--config", config], timeout_seconds=_INIT_SECONDS, user=user)
    if answer.code == _WRONG_FILE:
        raise GreyError(
            f"{greyd}: wanted it to read the present configuration, found: {answer.said()}; nothing was "
            "changed. Its own collection writes what it reads: install the collection of that version, and "
            "run its playbook upgrade"
        )
    return Outcome()


GREYD_OPTIONS: dict[str, dict[str, Any]] = {
    "greyd": {"type": "path", "required": True},
    "config": {"type": "path", "required": True},
    "user": {"type": "str", "default": ""},
}
"""The options of every module that runs greyd on a host (documented in doc_fragments/greyd.py)."""

CONTROL_OPTIONS: dict[str, dict[str, Any]] = {
    "grey_ctl": {"type": "path", "default": "grey-ctl"},
    "config": {"type": "path", "required": True},
    "federation": {"type": "str", "required": True},
}
"""The options of every module that asks a federation (documented in doc_fragments/control.py)."""


class Control:
    """grey-ctl with its file, for one federation."""

    def __init__(self, grey_ctl: str, config: str, federation: str) -> None:
        self._command = [grey_ctl, "federation"]
        self._federation = federation
        self._environment = {"GREY_CTL_CONFIG": config, "NO_COLOR": "1", "COLUMNS": "120", "LANG": "C.UTF-8"}

    def table(self) -> str:
        """Return the status table as people read it."""
        answer = self._run("status")
        if answer.code != 0:
            raise self._failed("status", answer)
        return answer.output.rstrip("\n")

    def status(self, *, online: Sequence[str], wait_seconds: float) -> dict[str, Any]:
        """Return the status, once there is a primary and the named clusters are online and ready."""
        deadline = time.monotonic() + wait_seconds
        while True:
            answer = self._run("status", "-o", "json")
            if answer.code == 0:
                status = answer.object()
                missing = _missing(status, online)
                if not missing:
                    return status
                found = "; ".join(missing)
            elif answer.code in (1, _NOBODY):
                found = answer.said()
            else:
                raise self._failed("status", answer)
            if time.monotonic() >= deadline:
                limit = f" within {wait_seconds:g} s" if wait_seconds > 0 else ""
                raise GreyError(
                    f"federation {self._federation}: wanted {_wish(online)}{limit}, found: {found}; "
                    "look at greyd.log on the hosts"
                )
            time.sleep(_POLL_SECONDS)

    def verify(self, *, wait_seconds: float) -> list[dict[str, Any]]:
        """Write through the primary and read on every other cluster; return a row per cluster."""
        answer = self._run(
            "verify",
            "--wait",
            f"{wait_seconds:g}s",
            "-o",
            "json",
            timeout_seconds=wait_seconds + _ASK_SECONDS,
        )
        if answer.code != 0 and not answer.output.strip():
            raise self._failed("verify", answer)
        rows: list[dict[str, Any]] = list(answer.object()["clusters"])
        behind = [f"{row['name']}: {row['problem']}" for row in rows if not row["ok"]]
        if answer.code != 0 or behind:
            raise GreyError(
                f"federation {self._federation}: wanted a write seen by every cluster within "
                f"{wait_seconds:g} s, found: {'; '.join(behind) or answer.said()}",
                clusters=rows,
            )
        return rows

    def _run(self, verb: str, *arguments: str, timeout_seconds: float = _ASK_SECONDS) -> Answer:
        return run(
            [*self._command, verb, "--federation", self._federation, *arguments],
            timeout_seconds=timeout_seconds,
            environment=self._environment,
        )

    def _failed(self, verb: str, answer: Answer) -> GreyError:
        return GreyError(
            f"grey-ctl federation {verb} --federation {self._federation}: wanted exit 0, "
            f"found {answer.code}: {answer.said()}"
        )


def _missing(status: Mapping[str, Any], online: Sequence[str]) -> list[str]:
    found = {cluster["name"]: cluster for cluster in status["clusters"]}
    missing = [] if status.get("primary") else ["no primary yet"]
    for name in online:
        cluster = found.get(name)
        if cluster is None:
            missing.append(f"{name} is not part of it")
        elif not cluster["online"] or cluster["status"] not in ("primary", "replica"):
            missing.append(
                f"{name} is {cluster['status']}"
                + (f" ({cluster['problem']})" if cluster.get("problem") else "")
            )
    return missing


def _wish(online: Sequence[str]) -> str:
    return "a primary" + (f" and {', '.join(online)} online" if online else "")
