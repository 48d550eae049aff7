# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError
from ansible_collections.grey.distributed.plugins.module_utils._programs import Plan, Program, decide
from ansible_collections.grey.distributed.plugins.module_utils._supervisor_conf import (
    Layout,
    program_file,
    supervisor_file,
)

ALL = {"a": "down", "b": "outdated", "c": "current"}
LAYOUT = Layout("/r", "/r/log", "/r/run", "/r/etc/supervisord.conf")


@pytest.mark.parametrize(
    ("anew", "defer", "plan"),
    [
        (False, False, Plan(frozenset("ab"), frozenset(), anew=False)),
        (False, True, Plan(frozenset("a"), frozenset("b"), anew=False)),
        (True, False, Plan(frozenset("abc"), frozenset(), anew=True)),
        (True, True, Plan(frozenset("a"), frozenset("bc"), anew=False)),
    ],
)
def test_what_is_started_now_and_what_is_left(anew: bool, defer: bool, plan: Plan) -> None:
    assert decide(ALL, anew=anew, defer=defer) == plan


def test_nothing_is_touched_when_all_is_current() -> None:
    assert decide({"c": "current"}, anew=False, defer=False) == Plan(frozenset(), frozenset(), anew=False)


def test_percent_signs_survive_supervisords_expansion() -> None:
    text = program_file(LAYOUT, Program("a", ("/bin/echo", "100%"), 1, 2)).content
    assert "command = /bin/echo 100%%\n" in text


@pytest.mark.parametrize("path", ["/with space", "/with;semicolon", '/with"quote', "/with\nnewline"])
def test_paths_that_its_files_cannot_carry_are_refused(path: str) -> None:
    with pytest.raises(GreyError, match="wanted a word without spaces"):
        supervisor_file(Layout(path, f"{path}/log", f"{path}/run", f"{path}/supervisord.conf"))
    with pytest.raises(GreyError, match="wanted a word without spaces"):
        program_file(LAYOUT, Program("a", (path,), 1, 2))
