# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that ask greyd and grey-ctl, against programs that answer what they are told."""

from __future__ import annotations

import json
import os
import pwd
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grey.distributed.tests.unit.harness import Script, fails, passes, program, tree

INIT = """
import json, pathlib, sys
assert sys.argv[1] == "init"
identity = pathlib.Path(sys.argv[-1]).with_name("identity.json")
changed = not identity.exists()
if changed and "--check" not in sys.argv:
    identity.write_text("x")
print(json.dumps({"changed": changed, "data_id": "d1" if identity.exists() else None}))
"""


def says(folder: Path, name: str, *answers: tuple[int, Any, str]) -> str:
    """Write a program that gives one (code, output, errors) after the other, the last one again."""
    counter = folder / f"{name}.calls"
    return program(
        folder / name,
        f"import json, pathlib, sys\ncounter = pathlib.Path({str(counter)!r})\n"
        "calls = counter.read_text().splitlines() if counter.exists() else []\n"
        "counter.write_text('\\n'.join([*calls, json.dumps(sys.argv[1:])]))\n"
        "answers = "
        f"{[(code, out if isinstance(out, str) else json.dumps(out), err) for code, out, err in answers]!r}\n"
        "code, out, err = answers[min(len(calls), len(answers) - 1)]\n"
        "print(out)\nprint(err, file=sys.stderr)\nsys.exit(code)\n",
    )


def calls(folder: Path, name: str) -> list[list[str]]:
    file = folder / f"{name}.calls"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_node_script(tmp_path: Path) -> None:
    (tmp_path / "grey.yaml").write_text("")
    greyd = program(tmp_path / "greyd", INIT)
    Script(
        "grey_node",
        lambda: tree(tmp_path),
        wrong=[({"greyd": greyd}, "missing required arguments: config")],
        create={"greyd": greyd, "config": f"{tmp_path}/grey.yaml"},
    ).play()
    assert passes("grey_node", {"greyd": greyd, "config": f"{tmp_path}/grey.yaml"})["data_id"] == "d1"


def test_a_release_that_cannot_read_the_present_configuration(tmp_path: Path) -> None:
    said = "greyd: /etc/grey/grey.yaml:7: node.store.colour: unknown key"
    greyd = says(tmp_path, "greyd", (2, "", said), (3, "", "greyd: the data is gone"), (1, "", "no engine"))
    args = {"state": "readable", "greyd": greyd, "config": f"{tmp_path}/grey.yaml"}
    assert fails("grey_node", args) == (
        f"{greyd}: wanted it to read the present configuration, found: {said}; nothing was changed. Its own "
        "collection writes what it reads: install the collection of that version, and run its playbook "
        "upgrade"
    )
    # Whatever else is wrong with the host is not the configuration's fault.
    assert not passes("grey_node", args)["changed"]
    assert not passes("grey_node", args, check=True)["changed"]
    assert calls(tmp_path, "greyd") == 3 * [["init", "--check", "--config", f"{tmp_path}/grey.yaml"]]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize(("module", "more"), [("grey_node", {}), ("grey_cluster", {"group": "engine"})])
def test_greyd_runs_as_its_user(module: str, more: dict[str, str]) -> None:
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which is closed to other users
        path = Path(folder)
        path.chmod(0o777)
        greyd, said = path / "greyd", path / "said"
        greyd.write_text(
            f'#!/bin/sh\nid -u > {said}\nid -G >> {said}\npwd >> {said}\necho "$HOME" >> {said}\n'
            """echo '{"changed": false, "healthy": true, "data_id": "d1"}'\n"""
        )
        greyd.chmod(0o755)
        (path / "grey.yaml").write_text("")
        passes(module, {"greyd": str(greyd), "config": f"{path}/grey.yaml", "user": "nobody", **more})
        assert said.read_text().split() == [str(nobody.pw_uid), str(nobody.pw_gid), "/", nobody.pw_dir]
        assert (said.stat().st_uid, said.stat().st_mode & 0o777) == (nobody.pw_uid, 0o600)


def test_a_user_who_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "grey.yaml").write_text("")
    greyd = program(tmp_path / "greyd", INIT)
    foreseen = {"greyd": greyd, "config": f"{tmp_path}/grey.yaml", "user": "nobody-of-grey"}
    assert passes("grey_node", foreseen, check=True)["changed"]
    args = {"greyd": "/none", "config": f"{tmp_path}/grey.yaml", "user": "nobody-of-grey"}
    assert fails("grey_node", args) == (
        "user: wanted nobody-of-grey on this host, found no such user; the phase 'prepare' makes it"
    )


def test_check_mode_before_the_node_has_its_file(tmp_path: Path) -> None:
    answer = passes("grey_node", {"greyd": "/none", "config": f"{tmp_path}/grey.yaml"}, check=True)
    assert answer["changed"]
    assert answer["data_id"] is None


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (3, "the state on this host was refused, nothing was changed: the data is gone"),
        (2, "greyd init --config {config}: wanted exit 0, found 2: the data is gone"),
    ],
)
def test_a_refused_state_is_passed_on(tmp_path: Path, code: int, message: str) -> None:
    config = tmp_path / "grey.yaml"
    config.write_text("")
    greyd = says(tmp_path, "greyd", (code, "", "the data is gone"))
    assert fails("grey_node", {"greyd": greyd, "config": str(config)}) == message.format(config=config)


def cluster(name: str, status: str = "replica", **more: Any) -> dict[str, Any]:
    return {"name": name, "status": status, "online": status != "offline", "problem": None, **more}


def control(tmp_path: Path, *answers: tuple[int, Any, str], **more: Any) -> dict[str, Any]:
    grey_ctl = says(tmp_path, "grey-ctl", *answers)
    return {"grey_ctl": grey_ctl, "config": "/ctl.yaml", "federation": "global-grey", **more}


def test_federation_waits_for_a_primary_and_for_clusters(tmp_path: Path) -> None:
    good = {"primary": "a", "clusters": [cluster("a", "primary"), cluster("b")]}
    args = control(
        tmp_path,
        (4, "", "nobody answered"),
        (0, {**good, "primary": None}, ""),
        (0, {**good, "clusters": [cluster("a", "primary"), cluster("b", "offline")]}, ""),
        (0, good, ""),
        clusters=["a", "b"],
        wait=20,
    )
    answer = passes("grey_federation", args)
    assert answer["status"] == good
    assert answer["table"] == ""
    assert not answer["changed"]
    assert (
        calls(tmp_path, "grey-ctl")
        == [["federation", "status", "--federation", "global-grey", "-o", "json"]] * 4
    )


@pytest.mark.parametrize(("wait", "limit"), [(0, ""), (0.2, " within 0.2 s")])
def test_federation_says_what_is_missing(tmp_path: Path, wait: float, limit: str) -> None:
    status = {"primary": None, "clusters": [cluster("a", "refused", problem="disk full")]}
    args = control(tmp_path, (0, status, ""), clusters=["a", "b"], wait=wait)
    assert fails("grey_federation", args) == (
        f"federation global-grey: wanted a primary and a, b online{limit}, found: no primary yet; "
        "a is refused (disk full); b is not part of it; look at greyd.log on the hosts"
    )


def test_federation_does_not_wait_for_a_wrong_file(tmp_path: Path) -> None:
    args = control(tmp_path, (2, "", "ctl.yaml: no such file"), wait=60)
    assert fails("grey_federation", args) == (
        "grey-ctl federation status --federation global-grey: wanted exit 0, found 2: ctl.yaml: no such file"
    )


def test_verify_returns_a_row_per_cluster_and_the_table(tmp_path: Path) -> None:
    rows = [{"name": "a", "ok": True, "milliseconds": 12.5}]
    args = control(tmp_path, (0, {"clusters": rows}, ""), (0, "the table", ""), table=True, state="verified")
    answer = passes("grey_federation", args)
    assert answer["clusters"] == rows
    assert answer["table"] == "the table"
    assert calls(tmp_path, "grey-ctl")[0][-4:] == ["--wait", "30s", "-o", "json"]


def test_verify_writes_nothing_in_check_mode(tmp_path: Path) -> None:
    args = control(tmp_path, (1, "", ""), state="verified")
    assert passes("grey_federation", args, check=True)["clusters"] == []
    assert calls(tmp_path, "grey-ctl") == []


def test_verify_names_the_clusters_that_did_not_show_the_write(tmp_path: Path) -> None:
    rows = [
        {"name": "a", "ok": True, "milliseconds": 12.5, "problem": None},
        {"name": "b", "ok": False, "milliseconds": None, "problem": "connection refused"},
    ]
    args = control(tmp_path, (1, {"ok": False, "clusters": rows}, "grey-ctl: see status"), state="verified")
    assert fails("grey_federation", args) == (
        "federation global-grey: wanted a write seen by every cluster within 30 s, "
        "found: b: connection refused"
    )


def test_verify_passes_on_why_nobody_was_asked(tmp_path: Path) -> None:
    args = control(tmp_path, (4, "", "nobody answered"), state="verified")
    assert fails("grey_federation", args).endswith("wanted exit 0, found 4: nobody answered")


def test_info_looks_once(tmp_path: Path) -> None:
    good = {"primary": "a", "clusters": [cluster("a", "primary"), cluster("b", "offline")]}
    args = control(tmp_path, (0, good, ""), (0, "the table", ""), table=True)
    answer = passes("grey_federation_info", args)
    assert (answer["status"], answer["table"], answer["changed"]) == (good, "the table", False)
    assert len(calls(tmp_path, "grey-ctl")) == 2


@pytest.mark.parametrize("module", ["grey_federation", "grey_federation_info"])
def test_wrong_parameters(module: str) -> None:
    assert fails(module, {"config": "x"}) == "missing required arguments: federation"
