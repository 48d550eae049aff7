# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Completion through real shells: what stands on the line after Tab."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_api import delay

from grey.cli.completion import SHELLS, read_line
from grey.cli.main import cli

if TYPE_CHECKING:
    from cli.conftest import Site

BIN = str(Path(sys.executable).parent)
BREAKS = " \t\n\"'@><=;|&(:"

KEYS = [b"user:1", b"user:12", b"user:2", b"a b'c", b"a,b", b"*", b"$HOME", "größe".encode(), b"\xff", b"50%"]

# What readline does around a completion function, for one line after the other.
DRIVER = """\
source "$1"
shift
for line; do
    COMP_LINE=$line COMP_POINT=${#line} COMP_CWORD=0
    _grey_ctl_completion grey-ctl "" ""
    printf '%s\\n' "${COMPREPLY[@]}" ''
done
complete -p grey-ctl >&2
"""


def environment(site: Site) -> dict[str, str]:
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "GREY_CTL_CONFIG": str(site.config),
        "HOME": str(site.folder),
        "LANG": "C.UTF-8",
    }


def bash(site: Site, *lines: str) -> list[list[str]]:
    """Return what a real bash puts on the line, for each line."""
    script = site.folder / "completion.bash"
    script.write_text(site.run("completion", "bash").stdout, encoding="utf-8")
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", DRIVER, "bash", str(script), *lines],
        env=environment(site),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "complete -o nosort -F _grey_ctl_completion grey-ctl" in done.stderr
    replies: list[list[str]] = [[]]
    for reply in done.stdout.split("\n")[:-1]:
        replies[-1].append(reply) if reply else replies.append([])
    return replies[:-1]


def replies(site: Site, line: str) -> list[str]:
    """Return what the script of bash is told, without a bash."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"COMP_LINE": line, "COMP_WORDBREAKS": BREAKS, **environment(site)}.items():
            patch.setenv(name, value)
        told = SHELLS["bash"](cli, {}, "grey-ctl", "_GREY_CTL_COMPLETE").complete()
    return [each.removeprefix("plain,") for each in told.splitlines()]


@pytest.fixture
def keyed(site: Site) -> Site:
    for key in KEYS:
        site.fake.put(key, b"")
    return site


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("grey-ctl fed", ["federation"]),
        ("grey-ctl kv ", ["put", "get", "delete", "list", "batch", "watch"]),
        ("grey-ctl kv get --cons", ["--consistency"]),
        ("grey-ctl kv get k --consistency ", ["eventual", "bounded", "strong"]),
        ("grey-ctl kv get k --consistency=st", ["strong"]),
        ("grey-ctl kv get k --cluster ", ["aws-east", "gcp-west", "edge-chicago"]),
        ("grey-ctl kv get k --cluster edge", ["edge-chicago"]),
        ("grey-ctl --federation gl", ["global-grey"]),
        ("grey-ctl context use g", ["global-grey"]),
        ("grey-ctl completion ", ["bash", "zsh", "fish"]),
    ],
)
def test_words_of_the_command_line(site: Site, line: str, found: list[str]) -> None:
    assert sorted(replies(site, line)) == sorted(found)


def test_a_real_bash(keyed: Site) -> None:
    lines = {
        "grey-ctl fed": ["federation"],
        "grey-ctl kv get k --consistency=st": ["strong"],
        "grey-ctl kv get k --cluster edge": ["edge-chicago"],
        "grey-ctl context use ": ["global-grey"],
        "grey-ctl kv get user:1": ["1", "12"],
        "grey-ctl kv get 'user:1": ["user:1", "user:12"],
        r"grey-ctl kv get a\ ": [r"a\ b\'c"],
        r"grey-ctl kv get \*": [r"\*"],
        "grey-ctl kv get gr": ["größe"],
        "grey-ctl kv get nothing": [],
    }
    assert bash(keyed, *lines) == list(lines.values())


@pytest.mark.parametrize(
    ("word", "found"),
    [
        # bash leaves what is before its last word break on the line.
        ("user:1", ["1", "12"]),
        ("use", ["user:1", "user:12", "user:2"]),
        ("'user:1", ["user:1", "user:12"]),
        (r"a\ ", [r"a\ b\'c"]),
        ('"a b', ["a b'c"]),
        ("a,", ["a,b"]),
        (r"\*", [r"\*"]),
        (r"\$", [r"\$HOME"]),
        ("gr", ["größe"]),
        ("5", []),
    ],
)
def test_keys_that_are_there(keyed: Site, word: str, found: list[str]) -> None:
    assert replies(keyed, f"grey-ctl kv get {word}") == found


def test_every_reply_names_the_key_again(keyed: Site) -> None:
    """What is put on the line, read by the shell, is the key."""
    plain = {key.decode() for key in KEYS if key not in {b"\xff", b"50%"}}
    assert {shlex.split(reply)[0] for reply in replies(keyed, "grey-ctl kv get ")} == plain
    found = replies(keyed, "grey-ctl kv get --key-encoding percent ")
    assert {"50%25", "%FF", "a%20b'c"} <= {shlex.split(reply)[0] for reply in found}
    assert replies(keyed, "grey-ctl kv get --key-encoding percent gr%C3%B") == ["gr%C3%B6%C3%9Fe"]


def test_only_keys_of_the_cluster_and_the_federation_that_were_named(keyed: Site) -> None:
    assert replies(keyed, "grey-ctl kv get --cluster edge-chicago user:2") == ["2"]
    assert keyed.fake.asked == ["edge-chicago"]
    assert replies(keyed, "grey-ctl --federation mars kv get user:2") == []
    assert replies(keyed, "grey-ctl kv list --prefix user:2") == ["2"]


def test_the_cursor_is_not_kept_waiting(keyed: Site) -> None:
    """A federation that hangs is asked for a second, then nothing is said."""
    for cluster in keyed.fake.clusters.values():
        cluster.script.extend([delay(30)] * 20)
    started = time.monotonic()
    assert bash(keyed, "grey-ctl kv get us") == [[]]
    assert time.monotonic() - started < 10


def test_a_wrong_file_says_nothing(site: Site) -> None:
    site.config.write_text("federations: 5\n")
    for line in ("grey-ctl kv get us", "grey-ctl kv get k --cluster ", "grey-ctl context use "):
        assert replies(site, line) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_every_shell(site: Site, shell: str) -> None:
    done = site.run("completion", shell)
    assert (done.stderr, done.exit_code) == ("", 0)
    assert f"_GREY_CTL_COMPLETE={shell}_complete" in done.stdout
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n", "/dev/stdin"], input=done.stdout, text=True, check=True, timeout=30)


@pytest.mark.parametrize(
    ("shell", "variables", "printed"),
    [
        (
            "zsh",
            {"COMP_WORDS": "grey-ctl kv get user:1", "COMP_CWORD": "3"},
            "plain\nuser:1\n_\nplain\nuser:12\n_\n",
        ),
        ("fish", {"COMP_WORDS": "grey-ctl kv get a,", "COMP_CWORD": "a,"}, "plain,a,b\n"),
    ],
)
def test_what_the_other_shells_are_told(
    keyed: Site, shell: str, variables: dict[str, str], printed: str
) -> None:
    done = subprocess.run(
        [f"{BIN}/grey-ctl"],
        env={**environment(keyed), "_GREY_CTL_COMPLETE": f"{shell}_complete", **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == (printed, "", 0)


@given(words=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1), max_size=4))
def test_a_line_is_read_as_a_shell_reads_it(words: list[str]) -> None:
    found = read_line(f"{shlex.join(words)} ", BREAKS)
    assert (list(found.words), found.last, found.quote) == (words, "", "")


@pytest.mark.parametrize(
    ("line", "last", "kept", "quote"),
    [
        ("grey-ctl get a:b", "a:b", "a:", ""),
        ("grey-ctl get a:", "a:", "a:", ""),
        ("grey-ctl get --x=a:b", "--x=a:b", "--x=a:", ""),
        (r"grey-ctl get a\:b", "a:b", "", ""),
        ("grey-ctl get 'a:b", "a:b", "", "'"),
        ("grey-ctl get ''", "", "", ""),
        ("grey-ctl get a\\", "a", "", ""),
        ("", "", "", ""),
    ],
)
def test_the_word_at_the_cursor(line: str, last: str, kept: str, quote: str) -> None:
    found = read_line(line, BREAKS)
    assert (found.last, found.kept, found.quote) == (last, kept, quote)
