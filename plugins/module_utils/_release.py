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
        try:
            name = (self._folder / _CURRENT).readlink().name
        except OSError:
            return None
        return name if self.is_whole(name) else None

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

    def ensure(
        self, name: str, archive: str | None, python: str | None, *, activate: bool, check: bool
    ) -> Outcome:
        """Install a release from its wheelhouse unless it is there, and let ``current`` link to it."""
        if "/" in name or name.startswith("."):
            raise GreyError(f"release: wanted a name such as 0.2.0-1a2b3c4d, found {name!r}")
        previous = self.current()
        outcome = Outcome(
            {"release": name, "previous": previous, "installed": False, "bin": str(self.path(name) / "bin")}
        )
        if self.is_whole(name) and (previous == name or not activate):
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
                if activate:
                    self._switch(name)
        return outcome

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
        beside = self._folder / f".{_CURRENT}.{secrets.token_hex(4)}"
        beside.symlink_to(Path("releases", name))
        beside.replace(self._folder / _CURRENT)
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
