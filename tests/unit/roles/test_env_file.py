# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that a user sources: grey-ctl is found, and Ansible starts whatever the locale."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest
import yaml

TASKS = Path(__file__).resolve().parents[3] / "roles" / "federation" / "tasks" / "controller.yml"


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    """The file as the role writes it."""
    (files,) = [task["grey.distributed.grey_files"]["files"] for task in yaml.safe_load(TASKS.read_text())]
    (content,) = [file["content"] for file in files if "grey_env_file" in file["path"]]
    templates = jinja2.Environment(keep_trailing_newline=True)
    templates.filters.update(quote=shlex.quote, dirname=os.path.dirname)
    path = tmp_path / "env"
    path.write_text(
        templates.from_string(content).render(
            grey_config={"name": "global-grey"},
            grey_ctl_program="/o p/bin/grey-ctl",
            grey_ctl_file="/o p/ctl.yaml",
        )
    )
    return path


@pytest.mark.skipif(shutil.which("locale") is None, reason="the C library's program locale is not here")
@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"LANG": "xx_YY.UTF-8"}, "C.UTF-8"),
        ({"LC_ALL": "xx_YY.UTF-8"}, "C.UTF-8"),
        ({"LC_ALL": "C"}, "C.UTF-8"),
        ({"LC_ALL": "POSIX", "LANG": "C.UTF-8"}, "C.UTF-8"),
        ({}, "C.UTF-8"),
        ({"LANG": "C.UTF-8"}, ""),
        ({"LC_ALL": "C.utf8"}, "C.utf8"),
    ],
)
def test_a_locale_that_ansible_refuses_is_replaced(
    env_file: Path, variables: dict[str, str], wanted: str
) -> None:
    script = f'. {env_file}; echo "$LC_ALL|$GREY_CTL_CONFIG|${{PATH%%:*}}"'
    done = subprocess.run(
        ["sh", "-eu", "-c", f"LC_ALL=${{LC_ALL-}}; {script}"],
        env={"PATH": os.environ["PATH"], **variables}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{wanted}|/o p/ctl.yaml|/o p/bin\n"
    assert not done.stderr
