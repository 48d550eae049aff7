# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What bootstrap.py says of an old Python, a half-made or moved environment and a dead network."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import script

import bootstrap
import console
import environment
from console import Failed


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished, empty environment of its own checkout."""
    root = tmp_path / "checkout"
    for name, text in (
        ("requirements/demo.txt", "a==1"),
        ("requirements/dev.txt", "a==1"),
        ("node/pyproject.toml", ""),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    folder = root / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    monkeypatch.setattr(environment, "ROOT", root)
    monkeypatch.setattr(environment, "VENV", folder)
    monkeypatch.setattr(environment, "STAMP", folder / "grey-stamp.json")
    monkeypatch.setattr(environment, "CACHE", root / ".cache")
    monkeypatch.setattr(environment, "LOG", root / ".cache" / "log" / "environment.log")
    environment.link_collection()
    stamp(folder, set="demo")
    return folder


def stamp(folder: Path, **changes: str) -> None:
    content = {"set": "demo", "venv": str(folder), **environment.digests(), **changes}
    (folder / "grey-stamp.json").write_text(json.dumps(content))


def test_bootstrap_parses_with_old_pythons() -> None:
    source = Path(bootstrap.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 4))
    assert not [item for item in ast.walk(tree) if isinstance(item, (ast.JoinedStr, ast.AnnAssign))]
    assert "annotations" not in source  # that import is a SyntaxError before 3.7


def test_an_old_python_without_a_newer_one_gets_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 2))
    monkeypatch.setenv("PATH", "/nonexistent")
    assert bootstrap.main() == 2
    words = capsys.readouterr().err
    assert "Python 3.11 or newer is wanted, found 3.9" in words
    assert "apt-get install python3 python3-venv" in words


def test_a_newer_python_is_picked_and_a_dead_shim_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "a" / "python3.13", "exit 127")
    script(tmp_path / "a" / "python3.12", "exit 1")
    good = script(tmp_path / "b" / "python3.11", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    assert bootstrap.newer_python() == str(good)


def test_a_finished_environment_is_left_alone(venv: Path) -> None:
    assert environment.up_to_date("demo")
    assert not environment.up_to_date("dev")
    stamp(venv, set="dev")
    assert environment.up_to_date("demo") and environment.up_to_date("dev")


def test_a_changed_lock_or_project_file_is_noticed(venv: Path) -> None:
    (environment.ROOT / "requirements" / "dev.txt").write_text("a==2")
    assert environment.up_to_date("demo"), "the developer's lock is none of the demo's business"
    project = environment.ROOT / "node" / "pyproject.toml"
    project.write_text("[tool.ruff]")
    assert environment.up_to_date("demo"), "how the node is checked is not how it is installed"
    project.write_text("[project]")
    assert not environment.up_to_date("demo")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"set": "other"}'])
def test_a_try_that_was_cut_short_is_noticed(venv: Path, content: str) -> None:
    environment.STAMP.write_text(content)
    assert environment.broken(environment.read_stamp()) == "an earlier try did not finish"


def test_a_moved_or_copied_environment_is_noticed(venv: Path) -> None:
    stamp(venv, venv="/elsewhere/.venv")
    assert (
        environment.broken(environment.read_stamp()) == "the one that is there was made for /elsewhere/.venv"
    )


def test_an_interpreter_that_is_gone_or_broken_is_noticed(venv: Path) -> None:
    python = venv / "bin" / "python"
    python.unlink()
    python.symlink_to("/nonexistent/python3.11")
    assert environment.broken(environment.read_stamp()) == "its interpreter is gone"
    python.unlink()
    script(python, "exit 1")
    assert environment.broken(environment.read_stamp()) == "its interpreter does not work"


def test_a_missing_collection_link_is_noticed(venv: Path) -> None:
    link = environment.site_packages() / "ansible_collections" / "grey" / "distributed"
    assert link.resolve() == environment.ROOT.resolve()
    link.unlink()
    assert not environment.up_to_date("demo")


def test_python_without_ensurepip_is_told_what_to_install(
    venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment.sys, "executable", str(script(tmp_path / "python", "exit 1")))
    with pytest.raises(Failed) as caught:
        environment.require_venv_module(install_missing=False)
    assert "has no module ensurepip" in caught.value.message
    assert "apt-get install python3-venv" in caught.value.next_step


def test_install_missing_asks_apt_as_root_only(
    venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    python = script(tmp_path / "bin" / "python", f"[ -e {asked} ]")
    script(tmp_path / "bin" / "apt-get", f'[ "$1" = install ] && echo "$@" > {asked}; exit 0')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(environment.sys, "executable", str(python))
    monkeypatch.setattr(environment.os, "geteuid", lambda: 1000)
    with pytest.raises(Failed):
        environment.require_venv_module(install_missing=True)
    monkeypatch.setattr(environment.os, "geteuid", lambda: 0)
    environment.require_venv_module(install_missing=True)
    environment.require_venv_module(install_missing=False)
    assert f"python{sys.version_info[0]}.{sys.version_info[1]}-venv" in asked.read_text()


def test_install_missing_minds_the_distributions_python_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(environment, "apt_install", asked.append)
    for code in (0, 1):
        monkeypatch.setattr(
            environment, "SYSTEM_PYTHON", str(script(tmp_path / f"python-{code}", f"exit {code}"))
        )
        environment.install_system_venv()
    assert asked == ["python3-venv"]


@pytest.mark.parametrize(
    ("code", "output", "message", "next_step"),
    [
        (
            1,
            "NewConnectionError(...): Failed to establish",
            "packages cannot be had from",
            "GREY_WHEELHOUSE=",
        ),
        (
            1,
            "ERROR: Could not find a version (from versions: none)",
            "packages cannot be had from",
            "pip config list",
        ),
        (
            1,
            "THESE PACKAGES DO NOT MATCH THE HASHES",
            "is not the one that demo.txt names",
            "pip cache purge",
        ),
        (1, "OSError: [Errno 28] No space left on device", "the disk is full", "make room"),
        (124, "Collecting x", "more than 15 minutes", "run this again"),
        (1, "ERROR: boom", "boom", "the whole output is in"),
    ],
)
def test_pips_failures_say_what_to_do(code: int, output: str, message: str, next_step: str) -> None:
    failure = environment.pip_failure(code, output, Path("requirements/demo.txt"))
    assert message in failure.message and next_step in failure.next_step


def test_a_wheelhouse_that_is_no_folder_is_named(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREY_WHEELHOUSE", "/nonexistent/wheels")
    with pytest.raises(Failed, match="GREY_WHEELHOUSE=/nonexistent/wheels is not a folder"):
        environment.install("demo")


def test_a_second_run_waits_for_the_first(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import console\n"
        "with console.exclusive(pathlib.Path(sys.argv[2]), 'the work'): print('in', flush=True)"
    )
    lock = tmp_path / "lock"
    with console.exclusive(lock, "the work"):
        command = [sys.executable, "-c", program, str(Path(console.__file__).parent), str(lock)]
        second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert second.stdout is not None
        assert "waiting: the work is under way in another run (process" in second.stdout.readline()
    assert second.stdout.read() == "in\n"
    assert second.wait(10) == 0
    second.stdout.close()


def test_a_command_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    code, output = console.run(
        "sleeping", ["sh", "-c", "echo begun; sleep 60 & wait"], tmp_path / "log", limit_seconds=0.3
    )
    assert (code, output) == (124, "begun\n")
    assert (tmp_path / "log").read_text() == "begun\n"


@pytest.mark.parametrize(
    ("folder", "found"),
    [("my grey", "a space"), ("a:b", "':'"), ("50%;{}", "'%' ';' '{' '}'"), ("a\nb", "'\\n'")],
)
def test_a_checkout_in_a_folder_that_would_fail_later_is_refused_first(
    folder: str,
    found: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path / folder / "grey")
    assert environment.main(["demo"]) == 2
    said = capsys.readouterr().err
    assert f"only, found {found}\n" in said
    assert "next: move it, for example: mv " in said and "~/grey" in said


@pytest.mark.parametrize("folder", ["/home/josé/grey-1.0_x", "/opt/a+b@c~d"])
def test_plain_folders_are_fine(folder: str) -> None:
    console.require_plain_path(Path(folder), "this", "")
