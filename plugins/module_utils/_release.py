# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases on a host, each in ``releases/NAME`` with its own Python environment; ``current`` links to one.

An environment holds its own path, so it is made in place. ``release.json``, written last, says it is whole.
``previous`` links to the release before. ``trial`` links to one that was switched to and has not proven
itself yet: an interrupted run leaves it behind, so that the next one knows what not to go back to.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.grey.distributed.plugins.module_utils import _files, _processes
from ansible_collections.grey.distributed.plugins.module_utils._command import run
from ansible_collections.grey.distributed.plugins.module_utils._locks import exclusive
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Change, GreyError, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

STAMP = "release.json"
_CURRENT = "current"
_PREVIOUS = "previous"
_TRIAL = "trial"
_INSTALL_SECONDS = 600.0
_INSTALL = (
    "install", "--isolated", "--no-input", "--quiet", "--disable-pip-version-check", "--no-cache-dir",
    "--no-index", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--find-links",
)  # fmt: skip


class Releases:
    """The releases below a folder."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def path(self, name: str) -> Path:
        """Where a release is, or will be."""
        return self._folder / "releases" / name

    def current(self) -> str | None:
        """Return the name of the whole release that ``current`` links to."""
        return self._linked(_CURRENT)

    def previous(self) -> str | None:
        """Return the name of the whole release that was current before."""
        return self._linked(_PREVIOUS)

    def trial(self) -> str | None:
        """Return the name of the release that was switched to and has not proven itself yet."""
        return self._target(_TRIAL)

    def running(self) -> str | None:
        """Return the whole release that greyd runs from, which a run that was cut short may have left."""
        for name, words in self._used():
            programs = [Path(word).name for word in words]
            if ("greyd", "run") in itertools.pairwise(programs) and self.is_whole(name):
                return name
        return None

    def fallback(self, chosen: str | None) -> str | None:
        """Return the release to go back to when ``chosen`` does not come up, None when there is none."""
        found = way_back(
            current=self.current(), previous=self.previous(), running=self.running(), trial=self.trial()
        )
        return None if found == chosen else found

    def installed(self) -> list[str]:
        """Return the names of all whole releases, the newest installation first."""
        try:
            found = [entry.name for entry in (self._folder / "releases").iterdir()]
        except OSError:
            return []
        return sorted(filter(self.is_whole, found), key=self._installed_at, reverse=True)

    def choose(self, release: str, version: str) -> str:
        """Return the release that should run: ``release``, unless ``version`` says otherwise.

        A version is that of an installed release, or its whole name. Fails when this host does not have it.
        """
        if not version or _is_version(release, version):
            return release
        here = self.installed()
        for name in here:
            if _is_version(name, version):
                return name
        raise GreyError(
            f"release: wanted {version}, found {', '.join(here) or 'none'} in {self._folder} and {release} "
            "in this collection; install the collection of that version, and deploy with it"
        )

    def is_whole(self, name: str) -> bool:
        """Whether a release was installed to the end, and the Python that it was made with is still there."""
        folder = self.path(name)
        try:
            stamp = json.loads((folder / STAMP).read_bytes())
        except (OSError, ValueError):
            return False
        return (
            isinstance(stamp, dict) and stamp.get("release") == name and (folder / "bin" / "python").exists()
        )

    def _linked(self, link: str) -> str | None:
        name = self._target(link)
        return name if name is not None and self.is_whole(name) else None

    def _target(self, link: str) -> str | None:
        try:
            return (self._folder / link).readlink().name
        except OSError:
            return None

    def _used(self) -> list[tuple[str, list[str]]]:
        """Return the releases that programs of this host run from, each with the program's command.

        A program is started through ``current``, but by the Python of its release.
        """
        folder = self._folder / "releases"
        return [
            (word.removeprefix(f"{folder}/").split("/")[0], words)
            for words in _processes.commands_below(folder)
            for word in words
            if word.startswith(f"{folder}/")
        ]

    def _installed_at(self, name: str) -> float:
        return (self.path(name) / STAMP).stat().st_mtime

    def ensure(
        self,
        name: str,
        archive: str | None,
        python: str | None,
        *,
        activate: bool,
        trial: bool,
        keep: int,
        check: bool,
    ) -> Outcome:
        """Install a release from its wheelhouse unless it is there, and let ``current`` link to it.

        With ``trial``, it has to prove itself yet; the call without it then says that it did. This removes
        all but ``keep`` releases, never the current one, the one before and those that programs run from.
        """
        if "/" in name or name.startswith("."):
            raise GreyError(f"release: wanted a name such as 0.2.0-1a2b3c4d, found {name!r}")
        previous = self.current()
        outcome = Outcome(
            {"release": name, "previous": previous, "installed": False, "bin": str(self.path(name) / "bin")}
        )
        settled = activate and not trial
        old = self._old(name, keep) if settled else []
        ended = self.trial() if settled else None
        if self.is_whole(name) and (previous == name or not activate) and not old and ended is None:
            return outcome
        if not self.is_whole(name):
            outcome.result["installed"] = True
            outcome.add(Change(str(self.path(name)), "", f"release {name}"))
        if activate and previous != name:
            outcome.add(Change(str(self._folder / _CURRENT), previous or "", name))
        if not check:
            with self._locked():
                if not self.is_whole(name):
                    self._install(name, archive, python or sys.executable)
                if activate and previous != name:
                    self._switch(name, trial=trial)
                if settled:
                    self._settle(old)
        outcome.changes += [Change(str(self._folder / _TRIAL), each, "") for each in (ended,) if each]
        outcome.changes += [Change(str(self.path(each)), f"release {each}", "") for each in old]
        return outcome

    def _settle(self, old: list[str]) -> None:
        (self._folder / _TRIAL).unlink(missing_ok=True)
        for each in old:
            shutil.rmtree(self.path(each))

    def _old(self, name: str, keep: int) -> list[str]:
        """Return the releases to remove once ``name`` is the current one."""
        current = self.current()
        before = self.previous() if current == name else current
        kept = [each for each in (name, before) if each is not None]
        others = [each for each in self.installed() if each not in kept]
        old = others[max(0, keep - len(kept)) :]
        # supervisord runs on from the release that it was started with, however old.
        used = {each for each, _words in self._used()} if old else set()
        return [each for each in old if each not in used]

    def _install(self, name: str, archive: str | None, python: str) -> None:
        folder = self.path(name)
        if archive is None or not Path(archive).is_file():
            raise GreyError(
                f"archive: wanted the wheelhouse of release {name} on this host, found {archive or 'none'}"
            )
        if folder.exists():
            shutil.rmtree(folder)  # an earlier try that was cut short
        with tempfile.TemporaryDirectory(prefix=".wheelhouse-", dir=self._folder) as house:
            _unpack(archive, house)
            # Neither ensurepip nor a pip on the host is needed: pip runs out of its wheel.
            _run([python, "-I", "-m", "venv", "--without-pip", str(folder)], f"an environment of {python}")
            pip = next(Path(house, "wheels").glob("pip-*.whl"), None)
            if pip is None:
                raise GreyError(f"{archive}: wanted a wheelhouse with pip in it, found none; copy it again")
            command = [str(folder / "bin" / "python"), f"{pip}/pip", *_INSTALL, f"{house}/wheels"]
            _run([*command, "--requirement", f"{house}/requirements.txt"], f"the wheels of release {name}")
        os.sync()  # what the stamp promises must outlive a power cut
        stamp = {"release": name, "python": os.path.realpath(folder / "bin" / "python")}
        _files.write_atomically(folder / STAMP, (json.dumps(stamp, indent=1) + "\n").encode(), 0o644)

    def _switch(self, name: str, *, trial: bool) -> None:
        # The way back is there before the switch, and never leads to what has not proven itself.
        before = self.current()
        if before is not None and before != self.trial():
            self._link(_PREVIOUS, before)
        # Whoever goes back needs no proof; what failed stays marked until the old release is up again.
        if trial and name != self.previous():
            self._link(_TRIAL, name)
        self._link(_CURRENT, name)

    def _link(self, link: str, name: str) -> None:
        beside = self._folder / f".{link}.{secrets.token_hex(4)}"
        beside.symlink_to(Path("releases", name))
        beside.replace(self._folder / link)
        _files.sync_folder(self._folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            # Programs run as another user than the one who installs them.
            previous = os.umask(0o022)
            try:
                (self._folder / "releases").mkdir(parents=True, exist_ok=True)
                with exclusive(self._folder / ".lock"):
                    yield
            finally:
                os.umask(previous)
        except OSError as error:
            raise _files.explain(error, self._folder) from error


def way_back(
    *, current: str | None, previous: str | None, running: str | None, trial: str | None
) -> str | None:
    """Return the release that is known to work on a host: what runs, unless it is on trial."""
    if running is not None and running != trial:
        return running
    return previous if current == trial else current


def _is_version(name: str, version: str) -> bool:
    return name == version or name.startswith(f"{version}-")


def _unpack(archive: str, folder: str) -> None:
    Path(folder, "wheels").mkdir()
    try:
        with tarfile.open(archive, "r:") as held:
            for member in held:
                file = held.extractfile(member)
                if file is not None and re.fullmatch(r"requirements\.txt|wheels/[^/]+\.whl", member.name):
                    with file, Path(folder, member.name).open("wb") as target:
                        shutil.copyfileobj(file, target)
    except tarfile.TarError as error:
        raise GreyError(f"{archive}: wanted a wheelhouse, found: {error}; copy it again") from error


def _run(command: list[str], what: str) -> None:
    answer = run(command, timeout_seconds=_INSTALL_SECONDS)
    if answer.code != 0:
        raise GreyError(
            f"wanted {what}, found exit {answer.code}: {answer.said()}; {command[0]} ran it on this host"
        )
