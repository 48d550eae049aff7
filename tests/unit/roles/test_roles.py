# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every role promises (design, section 7)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.grey.distributed.tests.unit.harness import ROOT

# Named on the command line.
SHORT = ("confirm", "version", "remove", "replace", "report")
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
PLAYS = sorted((ROOT / "playbooks").glob("*.yml"))
TASK_FILES = sorted((ROOT / "roles").glob("*/tasks/*.yml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def tasks(node: Any) -> Iterator[dict[str, Any]]:
    for task in node or []:
        yield task
        for key in ("block", "rescue", "always", "tasks"):
            yield from tasks(task.get(key))


@pytest.mark.parametrize("role", ROLES)
def test_argument_specs_equal_the_defaults(role: str) -> None:
    defaults = load(ROOT / "roles" / role / "defaults" / "main.yml")
    specs = load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
    said: dict[str, Any] = {}
    for entry in specs.values():
        said |= {name: option["default"] for name, option in entry["options"].items()}
        assert all(option["description"] for option in entry["options"].values())
    assert said == defaults


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_used_and_prefixed(role: str) -> None:
    text = "\n".join(
        path.read_text()
        for folder in ("roles", "playbooks")
        for path in (ROOT / folder).rglob("*.yml")
        if "argument_specs" not in path.name
    )
    for name in load(ROOT / "roles" / role / "defaults" / "main.yml"):
        assert name.startswith(("grey_", f"{role}_")) or name in SHORT, name
        assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{name} is never used"


@pytest.mark.parametrize("role", ROLES)
def test_roles_stay_small(role: str) -> None:
    lines = sum(len(path.read_text().splitlines()) for path in (ROOT / "roles" / role / "tasks").iterdir())
    assert lines < 350


@pytest.mark.parametrize("path", [*TASK_FILES, *PLAYS], ids=lambda path: str(path.relative_to(ROOT)))
def test_tasks_have_no_hidden_defaults_and_asserts_say_what_to_do(path: Path) -> None:
    assert not re.search(r"\|\s*d(efault)?\(", path.read_text())
    for task in tasks(load(path)):
        assert task.get("name"), task
        assertion = task.get("ansible.builtin.assert")
        if assertion is not None:
            assert assertion["fail_msg"]


@pytest.mark.parametrize("path", [*TASK_FILES, *PLAYS], ids=lambda path: str(path.relative_to(ROOT)))
def test_membership_never_comes_from_the_hosts_of_the_play(path: Path) -> None:
    # ansible_play_hosts may say whose requests are signed, what is installed and who must be online, no more.
    allowed = {
        "host/check.yml",
        "host/release.yml",
        "federation/online.yml",
        "federation/forget.yml",
        "node/order.yml",
        "node/readable.yml",
        "engine/plan.yml",
    }
    if f"{path.parent.parent.name}/{path.name}" not in allowed:
        assert not re.search(r"\b(ansible_)?play_(hosts|batch)", path.read_text())


def test_the_local_inventory_holds_the_documents_file() -> None:
    document = load(ROOT / "inventories" / "local" / "federation.yaml")
    names = [cluster["name"] for cluster in document["federation"]["clusters"]]
    assert names == ["aws-east", "gcp-west", "edge-chicago"]
