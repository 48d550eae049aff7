# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where etcd comes from: PATH, what an earlier run kept, a bundle, a pinned archive, a Debian package.

Each source takes a bounded time, and none needs root. What is fetched is kept in one folder per architecture.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ansible_collections.grey.distributed.plugins.module_utils import _debian, _download
from ansible_collections.grey.distributed.plugins.module_utils._download import Unusable
from ansible_collections.grey.distributed.plugins.module_utils._locks import exclusive
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ansible_collections.grey.distributed.plugins.module_utils._bundle import Bundle

OLDEST = (3, 4)
VERSION = "3.5.21"
SHA256 = {
    "amd64": "adddda4b06718e68671ffabff2f8cee48488ba61ad82900e639d108f2148501c",
    "arm64": "95bf6918623a097c0385b96f139d90248614485e781ec9bee4768dbb6c79c53f",
}
MIRRORS = ("https://github.com/etcd-io/etcd/releases/download", "https://storage.googleapis.com/etcd")
SOURCES = ("path", "kept", "bundle", "archive", "package")


def own_architecture() -> str:
    """Return this machine's architecture in the words of the release archives."""
    return architecture_of(platform.machine())


def architecture_of(machine: str) -> str:
    """Return an architecture in the words of the release archives."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.lower(), machine.lower())


@dataclass(frozen=True)
class Program:
    """An etcd, where it is from, and its version (empty when it was not run: it is for another machine)."""

    path: Path
    version: str
    source: str
    is_new: bool = False


@dataclass
class Finder:
    """Finds or fetches etcd for one architecture (``amd64``, ``arm64``).

    ``archive`` is a release archive on this machine, instead of one from ``mirrors``; ``sha256`` is its
    digest, for
    another version or architecture than those pinned here. ``tell`` hears what is under way.
    """

    folder: Path
    architecture: str = field(default_factory=own_architecture)
    archive: str | None = None
    mirrors: Sequence[str] = MIRRORS
    sha256: str | None = None
    bundle: Bundle | None = None
    tell: Callable[[str], None] = lambda _text: None

    def choose(self, sources: Sequence[str] = SOURCES) -> Program:
        """Return the first that works. Fails with the reason of every source, and what to do."""
        reasons = []
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder / "lock"):
            for name in sources:
                try:
                    return self._step(name)
                except Unusable as reason:
                    if name != "kept" and not (name == "bundle" and self.bundle is None):
                        reasons.append(str(reason))
                        self.tell(str(reason))
        raise GreyError(
            f"no etcd {dotted(OLDEST)} or newer for {self.architecture} could be found or fetched:\n"
            + "\n".join(f"    - {reason}" for reason in reasons),
            reasons=reasons,
        )

    def look(self, sources: Sequence[str]) -> Program | None:
        """Return the first that works of sources that fetch nothing (path, kept)."""
        for name in sources:
            with contextlib.suppress(Unusable):
                return self._step(name)
        return None

    def _step(self, name: str) -> Program:
        steps = {
            "path": self._from_path,
            "kept": self._from_kept,
            "bundle": self._from_bundle,
            "archive": self._from_archive,
            "package": self._from_package,
        }
        return steps[name]()

    @property
    def archive_name(self) -> str:
        """What the project calls its release archive."""
        return f"etcd-v{VERSION}-linux-{self.architecture}.tar.gz"

    def _from_path(self) -> Program:
        """Use the machine's own etcd."""
        reasons = []
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
            candidate = Path(folder, "etcd").absolute()
            # Asked first: is_file raises where this user may not look, such as in another user's folder.
            if folder and os.access(candidate, os.X_OK) and candidate.is_file():
                try:
                    return Program(candidate, dotted(version_of(candidate)), "found in PATH")
                except Unusable as reason:
                    reasons.append(str(reason))
        raise Unusable("PATH: " + ("; ".join(reasons) or "no etcd there"))

    def _from_kept(self) -> Program:
        """Use what an earlier run fetched."""
        for candidate in sorted(self.folder.glob("*/etcd")):
            try:
                return Program(
                    candidate, self._version(candidate), f"fetched earlier from a {candidate.parent.name}"
                )
            except Unusable:
                shutil.rmtree(candidate.parent)
        raise Unusable("nothing fetched earlier")

    def _from_bundle(self) -> Program:
        """Use the archive in a bundle, which says its digest."""
        if self.bundle is None:
            raise Unusable("bundle: none is given")
        try:
            content = self.bundle.etcd(self.architecture)
        except GreyError as error:
            raise Unusable(f"bundle: {error}") from error
        binary = self._keep(
            extract(io.BytesIO(content), self.bundle.path, self.folder / "download"), "bundle"
        )
        return self._program(binary, f"from the bundle {self.bundle.path}")

    def _from_archive(self) -> Program:
        """Use a release archive, local or downloaded, whose SHA-256 is the pinned one."""
        wanted = (self.sha256 or "").strip().lower() or SHA256.get(self.architecture, "")
        if not wanted:
            raise Unusable(
                f"release archive: no SHA-256 is pinned for {self.architecture} (known: "
                f"{', '.join(SHA256)}); "
                "name one"
            )
        part = self.folder / "download" / f"{self.archive_name}.part"
        places = [self.archive] if self.archive else [
            f"{mirror.rstrip('/')}/v{VERSION}/{self.archive_name}" for mirror in self.mirrors
        ]  # fmt: skip
        reasons = []
        for place in places:
            try:
                if not self.archive:
                    self.tell(f"fetching {place}")
                archive = Path(place) if self.archive else _download.fetch(place, part)
                check_sha256(archive, wanted)
                with archive.open("rb") as file:
                    binary = extract(file, archive.name, self.folder / "download")
                program = self._program(
                    self._keep(binary, "release archive"), f"from {place}, SHA-256 checked"
                )
            except Unusable as reason:
                reasons.append(str(reason))
            else:
                return program
            finally:
                part.unlink(missing_ok=True)
        raise Unusable("release archive: " + "; ".join(reasons))

    def _from_package(self) -> Program:
        """Fetch the distribution's package with private state folders and unpack it; no root is needed."""
        if self.architecture != own_architecture():
            raise Unusable(
                f"distribution's package: can be had for this machine only, not for {self.architecture}"
            )
        with _debian.package(("etcd-server", "etcd"), self.folder / "apt", self.tell) as package:
            inside = package.tree / "usr" / "bin" / "etcd"
            if not inside.is_file():
                raise Unusable(f"distribution's package: {package.name} does not hold /usr/bin/etcd")
            binary = self._keep(inside, "package")
        return self._program(binary, f"from the distribution's package {package.name}")

    def _program(self, path: Path, source: str) -> Program:
        return Program(path, self._version(path), source, is_new=True)

    def _version(self, path: Path) -> str:
        """Run it; another architecture's cannot be run here, and is only taken by its digest."""
        return dotted(version_of(path)) if self.architecture == own_architecture() else ""

    def _keep(self, binary: Path, kind: str) -> Path:
        """Check that the binary runs, then move it, in one step, to where later runs find it."""
        self._version(binary)
        folder = self.folder / kind.replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return binary.rename(folder / "etcd")


def check_sha256(archive: Path, wanted: str) -> None:
    """Refuse an archive that is not the pinned one."""
    try:
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unusable(f"{archive}: {error.strerror}") from error
    if found != wanted:
        raise Unusable(f"{archive.name}: wanted SHA-256 {wanted}, found {found}; not used")


def extract(archive: BinaryIO, name: str, folder: Path) -> Path:
    """Take the etcd binary out of a release archive into a folder, and nothing else."""
    target = folder / "etcd"
    try:
        with tarfile.open(fileobj=archive, mode="r:gz") as tar:
            member = next(
                (item for item in tar if item.isfile() and re.fullmatch(r"etcd-[^/]+/etcd", item.name)), None
            )
            source = tar.extractfile(member) if member else None
            if source is None:
                raise Unusable(f"{name} does not hold etcd-VERSION/etcd")
            folder.mkdir(parents=True, exist_ok=True)
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise Unusable(f"{name} cannot be unpacked: {error}") from error
    target.chmod(0o755)
    return target


def pack(binary: Path, archive: Path) -> Path:
    """Write a release archive that holds just this etcd: same program, same bytes."""
    entry = tarfile.TarInfo("etcd-bundled/etcd")
    entry.size = binary.stat().st_size
    entry.mode = 0o755
    with (
        binary.open("rb") as file,
        archive.open("wb") as target,
        gzip.GzipFile("", "wb", fileobj=target, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        tar.addfile(entry, file)
    return archive


def version_of(binary: Path) -> tuple[int, ...]:
    """Run the binary and return its version; refuse what does not run or is too old."""
    try:
        answer = subprocess.run(  # noqa: S603 (a list of words, no shell)
            [binary, "--version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            # etcd before 3.5 runs on arm64 only when it is told that this is meant.
            env={**os.environ, "ETCD_UNSUPPORTED_ARCH": "arm64"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unusable(f"{binary} does not run ({error})") from error
    match = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", answer.stdout)
    if answer.returncode != 0 or match is None:
        words = (answer.stderr or answer.stdout).strip()[:200]
        raise Unusable(f"{binary} --version failed: exit code {answer.returncode}, {words!r}")
    version = tuple(int(number) for number in match.groups())
    if version < OLDEST:
        raise Unusable(f"{binary} is version {dotted(version)}, wanted {dotted(OLDEST)} or newer")
    return version


def dotted(version: tuple[int, ...]) -> str:
    """Return a version as text."""
    return ".".join(str(number) for number in version)


def advice(architecture: str) -> str:
    """Say what an operator can do when no etcd can be had."""
    archive = f"etcd-v{VERSION}-linux-{architecture}.tar.gz"
    steps = [
        *(["as root: apt-get install etcd-server"] if architecture == own_architecture() else []),
        f"get {archive} on another machine, copy it to the controller, name it: -e grey_etcd_archive=PATH",
        "name a mirror of the project's releases: -e grey_etcd_mirrors=URL, or a proxy with https_proxy",
        "deploy from a bundle that holds it: -e grey_bundle=PATH",
        "when this is to write a bundle, leave etcd out: -e grey_bundle_etcd=false",
    ]
    return "\n".join(["next, one of these, and run again:", *(f"- {step}" for step in steps)])
