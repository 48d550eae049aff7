# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases on a host, each in ``releases/NAME`` with its own Python environment; ``current`` links to one.

An environment holds its own path, so it is made in place. ``release.json``, written last, says it is whole.
"""

from __future__ import annotations

import contextlib
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

from ansible_collections.grey.distributed.plugins.module_utils import _files
from ansible_collections.grey.distributed.plugins.module_utils._command import run
from ansible_collections.grey.distributed.plugins.module_utils._locks import exclusive
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Change, GreyError, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

STAMP = "release.json"
_CURRENT = "current"
_PREVIOUS = "previous"
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
        try:
            name = (self._folder / link).readlink().name
        except OSError:
            return None
        return name if self.is_whole(name) else None

    def _installed_at(self, name: str) -> float:
        return (self.path(name) / STAMP).stat().st_mtime

    def ensure(
        self,
        name: str,
        archive: str | None,
        python: str | None,
        *,
        activate: bool,
        keep: int,
        check: bool,
    ) -> Outcome:
        """Install a release from its wheelhouse unless it is there, and let ``current`` link to it.

        With ``activate``, all but ``keep`` releases are removed, never the current one and the one before.
        """
        if "/" in name or name.startswith("."):
            raise GreyError(f"release: wanted a name such as 0.2.0-1a2b3c4d, found {name!r}")
        previous = self.current()
        outcome = Outcome(
            {"release": name, "previous": previous, "installed": False, "bin": str(self.path(name) / "bin")}
        )
        old = self._old(name, keep) if activate else []
        if self.is_whole(name) and (previous == name or not activate) and not old:
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
                    self._switch(name)
                for each in old:
                    shutil.rmtree(self.path(each))
        outcome.changes += [Change(str(self.path(each)), f"release {each}", "") for each in old]
        return outcome

    def _old(self, name: str, keep: int) -> list[str]:
        """Return the releases to remove once ``name`` is the current one."""
        current = self.current()
        before = self.previous() if current == name else current
        kept = [each for each in (name, before) if each is not None]
        others = [each for each in self.installed() if each not in kept]
        return others[max(0, keep - len(kept)) :]

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

    def _switch(self, name: str) -> None:
        # The way back is there before the switch.
        before = self.current()
        if before is not None:
            self._link(_PREVIOUS, before)
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
