# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a helper did or would do, what it reports when it cannot, and how a module hands that to Ansible."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class GreyError(Exception):
    """Something is not as it must be: what was wanted, what was found, where, and the next step.

    ``details`` become further return values of the module that fails.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


@dataclass(frozen=True)
class Change:
    """One thing that a run changes (or, in check mode, would change), as text before and after."""

    subject: str
    before: str
    after: str


@dataclass
class Outcome:
    """What a module reports: it changed something exactly when ``changes`` is not empty."""

    result: dict[str, Any] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def add(self, change: Change | None) -> bool:
        """Take a change in; say whether there was one."""
        if change is None:
            return False
        self.changes.append(change)
        return True

    def diff(self) -> list[dict[str, str]]:
        """Return the changes in the form that Ansible prints for ``--diff``."""
        return [
            {
                "before_header": change.subject,
                "after_header": change.subject,
                "before": _lines(change.before),
                "after": _lines(change.after),
            }
            for change in self.changes
        ]


class Module(Protocol):
    """The part of AnsibleModule that ``finish`` uses."""

    params: dict[str, Any]
    check_mode: bool
    _diff: bool

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn:
        """End with an error."""

    def exit_json(self, **kwargs: Any) -> NoReturn:
        """End well."""


def finish(module: Module, work: Callable[[dict[str, Any], bool], Outcome]) -> None:
    """Do a module's work with its parameters and its check mode, and end the module with what came out."""
    try:
        outcome = work(module.params, module.check_mode)
    except GreyError as error:
        module.fail_json(msg=str(error), **error.details)
    answer = {"changed": bool(outcome.changes), **outcome.result}
    if module._diff:  # noqa: SLF001 (the only way that Ansible offers)
        answer["diff"] = outcome.diff()
    module.exit_json(**answer)


def _lines(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
