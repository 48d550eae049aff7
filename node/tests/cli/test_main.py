# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all commands share: help, grey-ctl's file, failures without a traceback."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

import grey
from grey.cli import target
from grey.cli.main import cli
from grey.cli.table import signs_for
from grey.cli.teach import EXITS, Group

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.conftest import Site

GREY_CTL = str(Path(sys.executable).with_name("grey-ctl"))


def run(*args: str, **env: str | None) -> tuple[str, str, int]:
    done = CliRunner(env={"GREY_CTL_CONFIG": None, **env}).invoke(cli, list(args), prog_name="grey-ctl")
    return done.stdout, done.stderr, done.exit_code


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def test_version() -> None:
    done = subprocess.run([GREY_CTL, "--version"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"grey-ctl {grey.__version__}\n", "")


@pytest.mark.parametrize("path", [*commands(cli), ("kv",), ("context",), ("config",), ("federation",), ()])
def test_help_teaches_with_an_example(path: tuple[str, ...]) -> None:
    out, _, code = run(*path, "--help")
    assert code == 0
    examples = out.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert any(line.startswith("  grey-ctl ") and " ".join(path) in line for line in examples)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("path", [*commands(cli), ()])
def test_help_says_what_the_exit_codes_mean(path: tuple[str, ...]) -> None:
    codes = run(*path, "--help")[0].partition("Exit codes:\n")[2].partition("\n\n")[0].splitlines()
    assert codes[0].startswith("  0 ")
    assert len(codes) > 1 or path == ("config", "schema")


def test_every_command_is_in_a_section_of_its_group() -> None:
    groups = [cli, *(each for each in cli.commands.values() if isinstance(each, Group))]
    for group in groups:
        if group.sections:
            shown = [name for names in group.sections.values() for name in names]
            assert sorted(shown) == sorted(group.commands)


def test_the_exit_codes_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| (\d+) \| ([^|]+) \|$", page, re.MULTILINE))
    assert {int(code): text.strip() for code, text in table.items()} == EXITS


def test_without_arguments_there_is_help() -> None:
    out, err, code = run()
    assert "grey-ctl federation status --federation global-grey" in out + err
    assert code == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["kv", "gett"], "No such command 'gett'. Did you mean 'get'?; see grey-ctl kv --help"),
        (["kv", "get"], "Missing argument 'KEY'; see grey-ctl kv get --help"),
        (["kv", "get", "k", "--mars"], "No such option '--mars'; see grey-ctl kv get --help"),
        (
            ["kv", "put", "k", "--file", "/no/such"],
            "Invalid value for '--file': '/no/such': No such file or directory; see grey-ctl kv put --help",
        ),
    ],
)
def test_wrong_usage_is_one_line(args: list[str], message: str) -> None:
    assert run(*args) == ("", f"grey-ctl: {message}\n", 2)


def test_no_file(tmp_path: Path) -> None:
    hint = (
        "name grey-ctl's file with --config or GREY_CTL_CONFIG (deploy.yml writes one), "
        "or make one: grey-ctl context add"
    )
    for args, env, path in (
        (["--config", f"{tmp_path}/a"], {}, f"{tmp_path}/a"),
        ([], {"GREY_CTL_CONFIG": f"{tmp_path}/b"}, f"{tmp_path}/b"),
        ([], {"HOME": f"{tmp_path}/c"}, f"{tmp_path}/c/.config/grey/ctl.yaml"),
    ):
        assert run("kv", "get", "k", *args, **env) == ("", f"grey-ctl: {path} does not exist; {hint}\n", 2)


def test_the_option_comes_before_the_variable(site: Site) -> None:
    site.fake.put(b"k", b"v")
    assert run("kv", "get", "k", "--config", str(site.config), GREY_CTL_CONFIG="/no/such") == ("v", "", 0)


def test_the_options_may_come_before_the_command(site: Site) -> None:
    site.fake.put(b"k", b"v")
    config = str(site.config)
    assert run("--config", config, "--federation", "global-grey", "kv", "get", "k") == ("v", "", 0)
    assert run("--config", "/no/such", "kv", "get", "k", "--config", config) == ("v", "", 0)
    said = (
        f"grey-ctl: {config}: it has no federation mars, it names: global-grey; check the federation's name\n"
    )
    assert run("--config", config, "--federation", "mars", "kv", "get", "k") == ("", said, 2)


def test_the_file_in_the_home_folder(site: Site) -> None:
    site.fake.put(b"k", b"v")
    home = site.folder / "home"
    (home / ".config" / "grey").mkdir(parents=True)
    site.config.rename(home / ".config" / "grey" / "ctl.yaml")
    assert run("kv", "get", "k", HOME=str(home)) == ("v", "", 0)


def test_a_wrong_file_shows_every_fault(site: Site) -> None:
    site.config.write_text("federations:\n  a: {}\n  b: 5\n", encoding="utf-8")
    out, err, code = run("federation", "status", "--config", str(site.config))
    assert (out, code) == ("", 2)
    lines = err.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith(f"grey-ctl: {site.config}:") for line in lines)


def test_a_wrong_federation_file(site: Site) -> None:
    (site.folder / "federation.yaml").write_text("federation: 5\n", encoding="utf-8")
    _, err, code = run("federation", "status", "--config", str(site.config))
    assert err.startswith(f"grey-ctl: {site.folder}/federation.yaml:1: federation: ")
    assert code == 2


def test_which_federation(site: Site) -> None:
    config = str(site.config)
    assert run("kv", "get", "k", "--config", config, "--federation", "mars") == (
        "",
        (
            f"grey-ctl: {config}: it has no federation mars, it names: global-grey; "
            "check the federation's name\n"
        ),
        2,
    )
    text = site.config.read_text(encoding="utf-8")
    entry = text.partition("\n")[2]
    site.config.write_text(text + entry.replace("global-grey", "another"), encoding="utf-8")
    assert run("kv", "get", "k", "--config", config) == (
        "",
        (
            f"grey-ctl: {config}: it names these federations: global-grey, another; "
            "choose one by its name, with --federation\n"
        ),
        2,
    )
    assert run("kv", "get", "k", "--config", config, "--federation", "another") == (
        "",
        (
            f"grey-ctl: {config}: the entry another points at {site.folder}/federation.yaml, "
            "which is of global-grey; name the entry like the federation\n"
        ),
        2,
    )
    assert run("kv", "get", "k", "--config", config, "--federation", "global-grey")[2] == 1


def test_a_certificate_whose_time_is_over_is_said_before_anything_is_asked(site: Site) -> None:
    site.authority.issue(site.folder / "operator", "operator", dns=["operator.test"], expired=True)
    _, err, code = run("kv", "get", "k", "--config", str(site.config))
    assert err.startswith(f"grey-ctl: {site.folder}/operator/cert.pem: the certificate expired on ")
    assert (code, site.fake.log) == (2, [])


def test_a_missing_certificate(site: Site) -> None:
    (site.folder / "operator" / "key.pem").unlink()
    assert run("federation", "status", "--config", str(site.config)) == (
        "",
        (
            f"grey-ctl: {site.folder}/operator/key.pem: the private key does not exist: "
            "run deploy.yml to make it\n"
        ),
        2,
    )


def test_a_fault_of_our_own_is_a_line_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("nothing to divide by")

    monkeypatch.setattr(target, "file_path", broken)
    assert run("kv", "get", "k") == (
        "",
        (
            "grey-ctl: a fault of grey-ctl: ZeroDivisionError: nothing to divide by; "
            "run it again with GREY_CTL_DEBUG=1 and report it\n"
        ),
        1,
    )
    done = CliRunner(env={"GREY_CTL_DEBUG": "1"}).invoke(cli, ["kv", "get", "k"])
    assert isinstance(done.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("options", "env", "coloured"),
    [
        ([], {}, True),
        (["--no-color"], {}, False),
        (["--color", "never"], {}, False),
        ([], {"NO_COLOR": "1"}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        ([], {"TERM": "dumb"}, False),
    ],
)
def test_colours_only_on_a_terminal_that_wants_them(
    site: Site, options: list[str], env: dict[str, str], coloured: bool
) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [GREY_CTL, "federation", "status", "--config", str(site.config), *options],
            stdout=theirs,
            check=True,
            env={**inherited, "TERM": "xterm-256color", "COLUMNS": "60", "LANG": "C.UTF-8", **env},
        )
        shown = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert ("\x1b[" in shown) is coloured
    assert "● Primary" in shown
    assert shown.startswith("┌─────")
    if not coloured:
        assert max(map(len, shown.splitlines())) <= 60


def test_signs_for_an_encoding_that_nobody_knows() -> None:
    assert signs_for("no-such-encoding").on == "*"
    assert signs_for(None).on == "*"
    assert signs_for("cp437").on == "*"
    assert signs_for("utf-8").on == "●"


def test_the_command_line_knows_only_the_interfaces() -> None:
    program = (
        "import sys, grey.cli.main\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('grey.')}\n"
        "print(sorted(rooms))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['cli', 'client', 'config', 'link', 'record']\n"
