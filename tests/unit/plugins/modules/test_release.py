# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a lock to a release that runs, with a real pip and a node of one file."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _interpreter, _wheelhouse
from ansible_collections.grey.distributed.tests.unit.harness import Script, fails, passes, tree

OWN = _interpreter.look(sys.executable).target
TARGET = {"python": OWN.python, "architecture": OWN.architecture}
PROJECT = """
[project]
name = "grey-distributed"
version = "{version}"
description = "a node of one file"
requires-python = ">=3.11"
license = "GPL-3.0-or-later"
dependencies = []
[project.scripts]
greyd = "grey:main"
"""


class Collection:
    """A collection with a small node; its lock pins nothing but pip, which lies in a folder of wheels."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "collection"
        self.cache = folder / "cache"
        self.wheels = folder / "index"
        self.wheels.mkdir()
        pip = _wheelhouse.bundled_pip()
        assert pip is not None, "this Python brings no pip (Debian: apt-get install python3-venv)"
        self.pip = self.wheels / pip.name
        self.pip.write_bytes(pip.read_bytes())
        (self.folder / "requirements").mkdir(parents=True)
        (self.folder / "node" / "src" / "grey").mkdir(parents=True)
        digest = hashlib.sha256(pip.read_bytes()).hexdigest()
        version = pip.name.split("-")[1]
        hashes = " \\\n".join(f"    --hash=sha256:{value}" for value in ("0" * 64, digest))
        lock = f"pip=={version} \\\n{hashes}\n    # via -r node.in\n"
        (self.folder / "requirements" / "node.txt").write_text(lock)
        self.release("0.1.0")
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(self.wheels))
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    def release(self, version: str) -> None:
        """Make it a version whose greyd prints it."""
        (self.folder / "node" / "pyproject.toml").write_text(PROJECT.format(version=version))
        program = f"def main():\n    print({version!r})\n"
        (self.folder / "node" / "src" / "grey" / "__init__.py").write_text(program)

    def args(self, **more: object) -> dict[str, object]:
        """Return the module's parameters."""
        return {"collection": str(self.folder), "cache": str(self.cache), "targets": [TARGET], **more}


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    return Collection(tmp_path, monkeypatch)


@dataclass(frozen=True)
class House:
    """A release and its wheelhouse for this Python; whoever changes the archive changes a copy."""

    release: str
    archive: str


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> list[House]:
    """Releases 0.1.0 and 0.2.0, made once: making them is not what the tests of installations look at."""
    made = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        collection = Collection(tmp_path_factory.mktemp("houses"), monkeypatch)
        for version in ("0.1.0", "0.2.0"):
            collection.release(version)
            house = passes("grey_wheelhouse", collection.args())
            made.append(House(house["release"], house["archives"][str(OWN)]))
    return made


def test_wheelhouse_script(collection: Collection) -> None:
    Script(
        "grey_wheelhouse",
        lambda: tree(collection.cache),
        wrong=[
            (
                collection.args(targets=[{"python": "3.9", "architecture": "x86_64"}]),
                "targets: python: wanted one of 3.11, 3.12, 3.13, 3.14, found '3.9'",
            ),
            (
                collection.args(targets=[{"python": "3.11", "architecture": "s390x"}]),
                "targets: architecture: wanted one of x86_64, aarch64, found 's390x'",
            ),
        ],
        create=collection.args(),
    ).play()


def test_a_second_run_fetches_nothing(collection: Collection) -> None:
    first = passes("grey_wheelhouse", collection.args(controller=True))
    assert first["fetched"] == [str(OWN)]
    assert first["archives"] == {str(OWN): first["controller"]}
    collection.pip.unlink()  # the index is gone
    again = passes("grey_wheelhouse", collection.args(controller=True))
    assert not again["changed"] and again["fetched"] == []
    # Damage is seen: then it would have to be fetched again.
    Path(first["controller"]).write_bytes(b"half")
    assert "wanted the pinned wheels" in fails("grey_wheelhouse", collection.args())


def test_what_the_lock_does_not_pin_is_never_used(collection: Collection) -> None:
    collection.pip.write_bytes(collection.pip.read_bytes() + b"more")
    message = fails("grey_wheelhouse", collection.args())
    assert "is not the one that the collection's lock pins, nothing was kept" in message
    assert not list(collection.cache.rglob("*.tar"))


def test_without_a_network_the_message_names_the_bundle(collection: Collection, monkeypatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    message = fails("grey_wheelhouse", collection.args())
    assert f"wheelhouse {OWN}: wanted the pinned wheels from the package index" in message
    assert "-e grey_bundle=PATH" in message


def test_a_bundle_needs_no_index(collection: Collection, tmp_path: Path) -> None:
    etcd = tmp_path / "etcd"
    etcd.write_text("#!/bin/sh\necho 'etcd Version: 3.5.0'\n")
    etcd.chmod(0o755)
    args = {
        "dest": str(tmp_path / "bundle.tar"),
        "collection": str(collection.folder),
        "cache": str(tmp_path / "other"),
        "pythons": [OWN.python],
        "architectures": [OWN.architecture],
        "etcd": {OWN.architecture: str(etcd)},
    }
    Script("grey_bundle", lambda: tree(tmp_path).get("bundle.tar"), create=args).play()
    first = (tmp_path / "bundle.tar").read_bytes()
    (tmp_path / "bundle.tar").unlink()
    passes("grey_bundle", args)
    assert (tmp_path / "bundle.tar").read_bytes() == first
    with tarfile.open(tmp_path / "bundle.tar") as archive:
        assert archive.getnames()[0] == "bundle.json"

    collection.pip.unlink()
    answer = passes("grey_wheelhouse", collection.args(bundle=args["dest"]))
    assert answer["fetched"] == [str(OWN)]
    found = passes("grey_etcd", {"cache": str(collection.cache), "bundle": args["dest"]})
    assert found["changed"] and found["version"] == "3.5.0"
    assert not passes("grey_etcd", {"cache": str(collection.cache), "bundle": args["dest"]})["changed"]


def test_a_bundle_that_lacks_something_says_what(collection: Collection, tmp_path: Path) -> None:
    dest = str(tmp_path / "bundle.tar")
    args = {"dest": dest, "collection": str(collection.folder), "cache": str(tmp_path / "other")}
    passes("grey_bundle", {**args, "pythons": [OWN.python], "architectures": [OWN.architecture]})
    other = {"python": "3.14" if OWN.python != "3.14" else "3.13", "architecture": "aarch64"}
    message = fails("grey_wheelhouse", collection.args(bundle=dest, targets=[other]))
    assert (
        f"wanted a wheelhouse for Python and architecture {other['python']}-aarch64, found {OWN}" in message
    )
    assert "ansible-playbook grey.distributed.bundle" in message
    message = fails("grey_etcd", {"cache": str(collection.cache), "bundle": dest, "sources": ["bundle"]})
    assert "wanted etcd for the architecture" in message and "found none" in message
    collection.release("0.2.0")
    message = fails("grey_wheelhouse", collection.args(bundle=dest))
    assert "wanted a bundle of release 0.2.0-" in message and "found one of 0.1.0-" in message
    assert "wanted a bundle, found" in fails("grey_wheelhouse", collection.args(bundle=sys.executable))


def test_a_changed_wheel_in_a_bundle_is_refused(collection: Collection, tmp_path: Path) -> None:
    dest = tmp_path / "bundle.tar"
    args = {"dest": str(dest), "collection": str(collection.folder), "cache": str(tmp_path / "other")}
    passes("grey_bundle", {**args, "pythons": [OWN.python], "architectures": [OWN.architecture]})
    content = bytearray(dest.read_bytes())
    content[-20000] ^= 1
    dest.write_bytes(content)
    assert "is damaged (its SHA-256 differs)" in fails("grey_wheelhouse", collection.args(bundle=str(dest)))


@pytest.mark.slow
def test_releases_live_side_by_side_and_a_link_switches(houses: list[House], tmp_path: Path) -> None:
    house, newer = houses
    opt = tmp_path / "opt"

    def state() -> object:
        return (
            sorted(path.name for path in (opt / "releases").glob("*")),
            (opt / "current").readlink() if (opt / "current").is_symlink() else None,
        )

    def said() -> str:
        done = subprocess.run([opt / "current" / "bin" / "greyd"], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    args = {"directory": str(opt), "release": house.release, "archive": house.archive}
    Script(
        "grey_release",
        state,
        wrong=[
            ({**args, "release": "../x"}, "release: wanted a name such as 0.2.0-1a2b3c4d, found '../x'"),
            (
                {**args, "archive": "/no.tar"},
                f"archive: wanted the wheelhouse of release {house.release} on this host, found /no.tar",
            ),
        ],
        create=args,
        update={"directory": str(opt), "release": newer.release, "archive": newer.archive},
    ).play()
    assert said() == "0.2.0"
    assert len(list((opt / "releases").iterdir())) == 2
    # Back is one step, and needs no wheelhouse.
    back = passes("grey_release", {"directory": str(opt), "release": house.release})
    assert (back["previous"], back["installed"], said()) == (newer.release, False, "0.1.0")
    assert (opt / "previous").readlink().name == newer.release


@pytest.mark.slow
def test_old_releases_go_but_never_the_way_back(collection: Collection, tmp_path: Path) -> None:
    opt = tmp_path / "opt"
    names = []
    for minor in range(1, 5):
        collection.release(f"0.{minor}.0")
        house = passes("grey_wheelhouse", collection.args())
        names.append(house["release"])
        args = {"directory": str(opt), "release": house["release"], "keep": 2}
        passes("grey_release", {**args, "archive": house["archives"][str(OWN)]})
    assert {path.name for path in (opt / "releases").iterdir()} == set(names[-2:])
    # The one before stays, whatever is kept; a second run has nothing left to remove.
    one = {"directory": str(opt), "release": names[-1], "keep": 1}
    assert not passes("grey_release", one)["changed"]
    assert passes("grey_release", {**one, "release": names[-2]})["previous"] == names[-1]


def stamp(opt: Path, *names: str) -> None:
    """Put whole releases there, the first one installed first; ``current`` leads to the last."""
    for age, name in enumerate(reversed(names)):
        folder = opt / "releases" / name
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to(sys.executable)
        (folder / "release.json").write_text(json.dumps({"release": name}))
        os.utime(folder / "release.json", (1000 - age, 1000 - age))
    (opt / "current").symlink_to(f"releases/{names[-1]}")


@contextmanager
def running(opt: Path, release: str, *words: str) -> Iterator[None]:
    """Run a program as a host does: by the Python of the release that was current when it started."""
    program = opt / "releases" / release / "bin" / words[0]
    program.write_text("import sys; print('up', flush=True); sys.stdin.read()")
    command = [str(opt / "releases" / release / "bin" / "python"), str(program), *words[1:]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        yield
        process.kill()


def looked(opt: Path, chosen: str) -> tuple[str | None, ...]:
    """Return what preflight says of releases: current, running, on trial, the way back."""
    args = {"host": "h", "address": "127.0.0.1", "install_dir": str(opt), "release": chosen}
    answer = passes("grey_preflight", args)
    return tuple(answer[key] for key in ("release", "running", "trial", "fallback"))


def test_a_release_that_a_program_runs_from_is_never_removed(tmp_path: Path) -> None:
    """supervisord is not restarted by an upgrade: it runs on from the release that it was started with."""
    stamp(tmp_path, "1-a", "2-b", "3-c", "4-d")
    args = {"directory": str(tmp_path), "release": "4-d", "keep": 2}
    with running(tmp_path, "1-a", "supervisord", "-c", "/etc/grey/supervisord.conf"):
        passes("grey_release", args)
        left = {path.name for path in (tmp_path / "releases").iterdir()}
        assert left == {"1-a", "3-c", "4-d"}
        assert not passes("grey_release", args)["changed"]
    assert passes("grey_release", args)["changed"]
    assert {path.name for path in (tmp_path / "releases").iterdir()} == {"3-c", "4-d"}


def test_an_upgrade_cut_short_before_the_restart_knows_the_way_back(tmp_path: Path) -> None:
    stamp(tmp_path, "2-new", "1-old")
    args = {"directory": str(tmp_path), "release": "2-new"}
    with running(tmp_path, "1-old", "greyd", "run", "--config", "/etc/grey/grey.yaml"):
        assert looked(tmp_path, "2-new") == ("1-old", "1-old", None, "1-old")
        passes("grey_release", {**args, "trial": True})
        assert looked(tmp_path, "2-new") == ("2-new", "1-old", "2-new", "1-old")
    # It was restarted, and ended again and again.
    assert looked(tmp_path, "2-new") == ("2-new", None, "2-new", "1-old")
    with running(tmp_path, "2-new", "greyd", "run"):
        assert looked(tmp_path, "2-new") == ("2-new", "2-new", "2-new", "1-old")
        # It came up at last.
        assert passes("grey_release", args, check=True)["changed"]
        assert passes("grey_release", args)["changed"]
        assert not passes("grey_release", args)["changed"]
        assert looked(tmp_path, "2-new") == ("2-new", "2-new", None, None)


def test_what_never_came_up_is_no_way_back(tmp_path: Path) -> None:
    stamp(tmp_path, "3-fixed", "2-broken", "1-good")
    base = {"directory": str(tmp_path), "trial": True}
    passes("grey_release", {**base, "release": "2-broken"})
    # Going back was cut short: what runs is still the broken one.
    passes("grey_release", {**base, "release": "1-good"})
    with running(tmp_path, "2-broken", "greyd", "run"):
        assert looked(tmp_path, "2-broken") == ("1-good", "2-broken", "2-broken", "1-good")
    passes("grey_release", {**base, "release": "2-broken"})
    passes("grey_release", {**base, "release": "3-fixed"})
    assert looked(tmp_path, "3-fixed") == ("3-fixed", None, "3-fixed", "1-good")
    assert passes("grey_release", {**base, "release": "3-fixed", "trial": False})["changed"]
    assert (tmp_path / "previous").readlink().name == "1-good"
    assert looked(tmp_path, "3-fixed") == ("3-fixed", None, None, None)


def test_a_trial_removes_nothing(tmp_path: Path) -> None:
    stamp(tmp_path, "4-d", "1-a", "2-b", "3-c")
    args = {"directory": str(tmp_path), "release": "4-d", "keep": 1}
    passes("grey_release", {**args, "trial": True})
    assert len(list((tmp_path / "releases").iterdir())) == 4
    passes("grey_release", args)
    assert {path.name for path in (tmp_path / "releases").iterdir()} == {"3-c", "4-d"}


@pytest.mark.slow
def test_the_release_that_should_run_is_chosen_among_those_that_are_there(
    collection: Collection, tmp_path: Path
) -> None:
    def look(version: str) -> dict[str, Any]:
        args = {"host": "h", "address": "127.0.0.1", "install_dir": str(tmp_path / "opt")}
        return passes("grey_preflight", {**args, "release": "0.9.0-new", "version": version})

    names = []
    for version in ("0.1.0", "0.2.0"):
        collection.release(version)
        house = passes("grey_wheelhouse", collection.args())
        names.append(house["release"])
        args = {"directory": str(tmp_path / "opt"), "release": names[-1]}
        passes("grey_release", {**args, "archive": house["archives"][str(OWN)]})
    assert look("")["releases"] == names[::-1]
    assert [look(version)["chosen"] for version in ("", "0.9.0", "0.1.0", names[1])] == [
        "0.9.0-new", "0.9.0-new", names[0], names[1],
    ]  # fmt: skip
    missing = look("0.1")
    assert missing["chosen"] is None
    assert missing["faults"] == [
        (
            f"h: release: wanted 0.1, found {names[1]}, {names[0]} in {tmp_path}/opt and 0.9.0-new in this "
            "collection; install the collection of that version, and deploy with it"
        )
    ]


@pytest.mark.slow
def test_half_an_installation_is_done_anew(houses: list[House], tmp_path: Path) -> None:
    house = houses[0]
    copy = tmp_path / "wheelhouse.tar"
    copy.write_bytes(Path(house.archive).read_bytes())
    folder = tmp_path / "opt" / "releases" / house.release
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "left over").write_text("")
    args = {"directory": str(tmp_path / "opt"), "release": house.release, "archive": str(copy)}
    answer = passes("grey_release", {**args, "activate": False, "remove_archive": True})
    assert answer["installed"] and answer["previous"] is None
    assert not (folder / "bin" / "left over").exists() and not copy.exists()
    assert json.loads((folder / "release.json").read_text())["release"] == house.release
    assert not (tmp_path / "opt" / "current").is_symlink()
    # A Python that went away makes it half an installation again.
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to("/nonexistent/python3")
    assert passes("grey_release", {**args, "activate": False}, check=True)["installed"]


@pytest.mark.slow
def test_a_damaged_wheelhouse_is_not_installed(houses: list[House], tmp_path: Path) -> None:
    house = houses[0]
    archive = tmp_path / "wheelhouse.tar"
    args = {"directory": str(tmp_path / "opt"), "release": house.release, "archive": str(archive)}
    content = Path(house.archive).read_bytes()
    changed = content.replace(b"print('0.1.0')", b"print('6.6.6')")
    assert changed != content
    archive.write_bytes(changed)
    message = fails("grey_release", args)
    assert f"wanted the wheels of release {house.release}, found exit 1" in message
    assert "DO NOT MATCH THE HASHES" in message
    archive.write_bytes(b"no tar")
    assert "wanted a wheelhouse, found" in fails("grey_release", args)


def test_an_interpreter_that_will_not_do_says_why() -> None:
    target = _interpreter.Target("3.9", "x86_64")
    assert _interpreter.Interpreter("/py", target, "2.17", False).faults() == [
        "/py: wanted Python 3.11 to 3.14 for the node, found 3.9; install one and name it with grey_python",
        "C library: wanted glibc 2.28 or newer, found 2.17",
        "/py: wanted its module venv, found none; install the whole of Python",
    ]
    assert _interpreter.Interpreter("p", OWN, "", True).faults() == [
        "C library: wanted glibc 2.28 or newer, found another one"
    ]
    assert not _interpreter.look(sys.executable).faults()
