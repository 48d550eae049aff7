# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheelhouses, on the controller: one tar per Python and architecture, with all that a host's release needs.

A wheelhouse holds ``requirements.txt`` (every wheel with its SHA-256) and ``wheels/``. It is made once, from
the package index that pip is set up for or from a bundle, and holds only what the collection's lock pins.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import sysconfig
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.grey.distributed.plugins.module_utils import _files, _wheel
from ansible_collections.grey.distributed.plugins.module_utils._command import run
from ansible_collections.grey.distributed.plugins.module_utils._interpreter import GLIBC, Target
from ansible_collections.grey.distributed.plugins.module_utils._locks import exclusive
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible_collections.grey.distributed.plugins.module_utils._bundle import Bundle

_MANYLINUX = (*(f"manylinux_2_{minor}" for minor in range(GLIBC[1], 16, -1)), "manylinux2014", "linux")
_PIP_SECONDS = 900.0
_PIP_HEARS = re.compile(
    r"(?i)PIP_.*|(https?|no|all)_proxy|SSL_CERT_.*|(REQUESTS|CURL)_CA_BUNDLE|XDG_.*|NETRC"
)
_WHEELS = "wheels"


@dataclass(frozen=True)
class Release:
    """What hosts get: the node's wheel and the lock that pins all else. Its name says both."""

    version: str
    wheel_name: str
    wheel: bytes
    lock: str

    @property
    def name(self) -> str:
        """The version and the beginning of the digest over wheel and lock, for example 0.2.0-1a2b3c4d."""
        digest = hashlib.sha256(self.wheel + b"\0" + self.lock.encode()).hexdigest()
        return f"{self.version}-{digest[:8]}"

    @property
    def requirements(self) -> str:
        """The lock with the node's own wheel in it."""
        package = self.wheel_name.split("-", 1)[0].replace("_", "-")
        return f"{self.lock}{package}=={self.version} --hash=sha256:{_sha256(self.wheel)}\n"

    @property
    def pins(self) -> dict[str, tuple[str, frozenset[str]]]:
        """By package, its version and the SHA-256 of the files that will do."""
        blocks = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)((?:.*\\\n)*.*)$", self.requirements, re.MULTILINE)
        return {
            _normal(name): (version, frozenset(re.findall(r"sha256:([0-9a-f]{64})", rest)))
            for name, version, rest in blocks
        }


def release_of(collection: Path) -> Release:
    """Return the release that a collection's folder carries: its wheel, or the one that its sources make."""
    lock_file = collection / "requirements" / "node.txt"
    try:
        lock = lock_file.read_text(encoding="utf-8")
        carried = sorted((collection / _WHEELS).glob("*.whl"))
        name, wheel = (
            (carried[0].name, carried[0].read_bytes()) if carried else _wheel.build(collection / "node")
        )
    except OSError as error:
        raise GreyError(
            f"{error.filename}: wanted a part of the collection, found: {error.strerror}; install the "
            "collection again"
        ) from error
    return Release(name.split("-")[1], name, wheel, lock)


class Wheelhouses:
    """The wheelhouses of one release in a cache folder. ``fetched`` counts those that were not there yet."""

    def __init__(self, release: Release, cache: str, bundle: Bundle | None = None) -> None:
        self._release = release
        self._folder = Path(cache) / "wheelhouses"
        self._bundle = bundle
        self.fetched: list[str] = []

    def path(self, wanted: Target) -> Path:
        """Where the wheelhouse of a target is, or will be."""
        return self._folder / f"grey-{self._release.name}-{wanted}.tar"

    def has(self, wanted: Target) -> bool:
        """Whether the wheelhouse is there and undamaged."""
        path = self.path(wanted)
        try:
            return _summed(path) == path.with_suffix(".sha256").read_text(encoding="ascii").strip()
        except OSError:
            return False

    def ensure(self, wanted: Target) -> Path:
        """Make the wheelhouse unless it is there; two runs at once make it once."""
        path = self.path(wanted)
        if self.has(wanted):
            return path
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with exclusive(self._folder / ".lock"):
                if not self.has(wanted):
                    content = (
                        self._from_index(wanted)
                        if self._bundle is None
                        else self._from_bundle(self._bundle, wanted)
                    )
                    _files.write_atomically(path, content, 0o644)
                    _files.write_atomically(
                        path.with_suffix(".sha256"), f"{_sha256(content)}\n".encode(), 0o644
                    )
                    self.fetched.append(str(wanted))
        except OSError as error:
            raise _files.explain(error, self._folder) from error
        return path

    def _from_bundle(self, bundle: Bundle, wanted: Target) -> bytes:
        content = bundle.wheelhouse(self._release.name, wanted)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            found = {}
            for member in archive:
                file = archive.extractfile(member)
                if file is not None and member.name.startswith(f"{_WHEELS}/"):
                    found[member.name.removeprefix(f"{_WHEELS}/")] = file.read()
        self._check(found, f"{bundle.path}, wheelhouse {wanted}")
        return self._pack(found)

    def _from_index(self, wanted: Target) -> bytes:
        with tempfile.TemporaryDirectory(prefix="wheels-", dir=self._folder) as folder:
            (Path(folder) / "lock.txt").write_text(self._release.lock, encoding="utf-8")
            abi = "cp" + wanted.python.replace(".", "")
            command = [
                *pip_command(), "download", "--require-hashes", "--no-deps", "--only-binary", ":all:",
                "--python-version", wanted.python, "--implementation", "cp",
                *(word for name in (abi, "abi3", "none") for word in ("--abi", name)),
                *(word for name in _MANYLINUX for word in ("--platform", f"{name}_{wanted.architecture}")),
                "--dest", folder, "--requirement", f"{folder}/lock.txt",
            ]  # fmt: skip
            environment = {name: value for name, value in os.environ.items() if _PIP_HEARS.fullmatch(name)}
            limits = {"PIP_RETRIES": "2", "PIP_DEFAULT_TIMEOUT": "15"}
            fixed = {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_COLOR": "1"}
            answer = run(
                command, timeout_seconds=_PIP_SECONDS, environment={**limits, **environment, **fixed}
            )
            if answer.code != 0:
                raise _pip_error(wanted, f"{answer.output}\n{answer.errors}")
            found = {path.name: path.read_bytes() for path in Path(folder).glob("*.whl")}
        found[self._release.wheel_name] = self._release.wheel
        self._check(found, f"what pip fetched for {wanted}")
        return self._pack(found)

    def _check(self, wheels: Mapping[str, bytes], where: str) -> None:
        """Every pinned package is there with a pinned digest, and nothing else is."""
        pins = self._release.pins
        there = set()
        for name, content in wheels.items():
            package, version = (*name.split("-"), "")[:2]
            pinned, digests = pins.get(_normal(package), ("", frozenset()))
            if version != pinned or _sha256(content) not in digests:
                raise GreyError(
                    f"{where}: {name} is not the file that the collection's requirements/node.txt pins; do "
                    "not use it: "
                    "make the bundle anew, or clear pip's cache (pip cache purge), and run again"
                )
            there.add(_normal(package))
        if missing := sorted(set(pins) - there):
            raise GreyError(
                f"{where}: wanted a wheel of each package of release {self._release.name}, missing: "
                f"{', '.join(f'{name} {pins[name][0]}' for name in missing)}; make the bundle anew"
            )

    def _pack(self, wheels: Mapping[str, bytes]) -> bytes:
        files = {"requirements.txt": self._release.requirements.encode()}
        return pack(files | {f"{_WHEELS}/{name}": wheels[name] for name in sorted(wheels)})


def pip_command() -> list[str]:
    """Return how pip is run here: this Python's own, or the one that it brings for new environments."""
    if run([sys.executable, "-m", "pip", "--version"], timeout_seconds=60).code == 0:
        return [sys.executable, "-m", "pip"]
    wheel = bundled_pip()
    if wheel is None:
        raise GreyError(
            f"{sys.executable}: wanted pip, to fetch the node's wheels, found none; install it (Debian: "
            "apt-get "
            "install python3-pip), or name a bundle with -e grey_bundle=PATH, which needs neither pip nor a "
            "network"
        )
    return [sys.executable, f"{wheel}/pip"]


def bundled_pip() -> Path | None:
    """Return the wheel of the pip that this Python brings, when it does."""
    apart = sysconfig.get_config_var("WHEEL_PKG_DIR")  # distributions keep it elsewhere
    folders = [*([Path(apart)] if apart else []), Path(sysconfig.get_path("stdlib"), "ensurepip", "_bundled")]
    return next((wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))), None)


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a tar with these files: same files, same bytes."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(content))
    return held.getvalue()


def _pip_error(wanted: Target, output: str) -> GreyError:
    words = [
        line for line in output.splitlines() if line.strip() and not line.startswith(("WARNING", "[notice]"))
    ]
    said = "\n".join(words[-6:])
    if "DO NOT MATCH THE HASHES" in output:
        return GreyError(
            f"wheelhouse {wanted}: a fetched file is not the one that the collection's lock pins, nothing "
            "was kept: "
            f"{said}\ndo not use it; a cache or mirror may hold a damaged file: pip cache purge, then run "
            "again"
        )
    return GreyError(
        f"wheelhouse {wanted}: wanted the pinned wheels from the package index that pip is set up for, "
        f"found:\n{said}\n"
        "check the network or pip's settings (pip config list) on the controller and run again; without a "
        "network, "
        "make a bundle on a machine that has one (ansible-playbook grey.distributed.bundle) and name it with "
        "-e grey_bundle=PATH"
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _summed(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
