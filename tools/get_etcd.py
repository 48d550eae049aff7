# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds or fetches etcd and writes the binary's absolute path to .cache/etcd/path. Standard library only.

In this order, each within a bounded time: PATH, what an earlier run fetched, a release archive with a pinned
SHA-256, the distribution's package, fetched and unpacked without root. Settings from the environment:

GREY_ETCD_ARCHIVE  a release archive on this machine, instead of downloading one
GREY_ETCD_MIRROR   where releases lie, instead of the project's two places; several are separated by spaces
GREY_ETCD_SHA256   the SHA-256 of the archive, for another version or architecture than those pinned here
"""

from __future__ import annotations

import hashlib
import http.client
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from console import CACHE, Failed, Ticker, exclusive, report, run, say, seconds, tail, write_atomically

HOME = CACHE / "etcd"
CHOSEN = HOME / "path"
OLDEST = (3, 4)
VERSION = "3.5.21"
SHA256 = {
    "amd64": "adddda4b06718e68671ffabff2f8cee48488ba61ad82900e639d108f2148501c",
    "arm64": "95bf6918623a097c0385b96f139d90248614485e781ec9bee4768dbb6c79c53f",
}
MIRRORS = ("https://github.com/etcd-io/etcd/releases/download", "https://storage.googleapis.com/etcd")
CONNECT_SECONDS = 10.0
DOWNLOAD_SECONDS = 300.0
PACKAGES = ("etcd-server", "etcd")


class Unusable(Exception):
    """A source cannot provide etcd; the text says why, and the next source is tried."""


def main() -> int:
    """Choose a binary; 0 when there is one, 2 when the user has to do something first."""
    try:
        with exclusive(HOME / "lock", "fetching etcd"):
            binary, source = choose()
            write_atomically(CHOSEN, f"{binary}\n")
    except Failed as failure:
        report("get_etcd", failure)
        return 2
    except KeyboardInterrupt:
        print("\nget_etcd: interrupted; run it again to go on", file=sys.stderr)
        return 130
    say(f"etcd: {binary} ({source})")
    return 0


def choose() -> tuple[Path, str]:
    """Return the binary and a few words on where it is from."""
    reasons = []
    for source in (from_path, from_cache, from_archive, from_package):
        try:
            return source()
        except Unusable as reason:
            if source is not from_cache:
                reasons.append(str(reason))
                if source is not from_path:
                    say(f"etcd: {reason}")
    raise Failed(
        f"no etcd {dotted(OLDEST)} or newer could be found or fetched:\n"
        + "\n".join(f"    - {reason}" for reason in reasons),
        "one of these, then run this again:\n"
        "- as root: apt-get install etcd-server\n"
        f"- get etcd-v{VERSION}-linux-{architecture()}.tar.gz on another machine, copy it here and set\n"
        "  GREY_ETCD_ARCHIVE=/path/to/it\n"
        "- set GREY_ETCD_MIRROR=URL to where the project's releases are mirrored, or https_proxy to a proxy",
    )


def from_path() -> tuple[Path, str]:
    """Use the machine's own etcd."""
    reasons = []
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = Path(folder, "etcd").absolute()
        if folder and candidate.is_file() and os.access(candidate, os.X_OK):
            try:
                return candidate, f"version {dotted(version_of(candidate))}, found in PATH"
            except Unusable as reason:
                reasons.append(str(reason))
    raise Unusable("PATH: " + ("; ".join(reasons) or "no etcd there"))


def from_cache() -> tuple[Path, str]:
    """Use what an earlier run fetched."""
    for candidate in sorted(HOME.glob("*/etcd")):
        try:
            return (
                candidate,
                f"version {dotted(version_of(candidate))}, fetched earlier from a {candidate.parent.name}",
            )
        except Unusable:
            shutil.rmtree(candidate.parent)
    raise Unusable("nothing fetched earlier")


def from_archive() -> tuple[Path, str]:
    """Use a release archive, local or downloaded, whose SHA-256 is the pinned one."""
    wanted = os.environ.get("GREY_ETCD_SHA256", "").strip().lower() or SHA256.get(architecture(), "")
    if not wanted:
        raise Unusable(
            f"release archive: no SHA-256 is pinned for {architecture()} (known: {', '.join(SHA256)}); "
            "GREY_ETCD_SHA256 can name one"
        )
    part = HOME / "download" / f"etcd-v{VERSION}-linux-{architecture()}.tar.gz.part"
    local = os.environ.get("GREY_ETCD_ARCHIVE")
    places = [local] if local else [
        f"{mirror.rstrip('/')}/v{VERSION}/{part.name.removesuffix('.part')}"
        for mirror in (os.environ.get("GREY_ETCD_MIRROR", "").split() or MIRRORS)
    ]  # fmt: skip
    reasons = []
    for place in places:
        try:
            archive = Path(place) if local else download(place, part)
            check_sha256(archive, wanted)
            binary = keep(extract(archive), "release archive")
        except Unusable as reason:
            reasons.append(str(reason))
        else:
            return binary, f"version {dotted(version_of(binary))}, from {place}, SHA-256 checked"
        finally:
            part.unlink(missing_ok=True)
    raise Unusable("release archive: " + "; ".join(reasons))


def from_package() -> tuple[Path, str]:
    """Fetch the distribution's package with private state folders and unpack it; no root is needed."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unusable(
            "distribution's package: only Debian's and Ubuntu's can be had so, and apt-get is not here"
        )
    work = HOME / "apt"
    shutil.rmtree(work, ignore_errors=True)
    (work / "archives").mkdir(parents=True)
    try:
        said: list[str] = []
        package = apt_download(work, said, system_lists=True) or apt_download(work, said, system_lists=False)
        if package is None:
            faults = [line for line in "".join(said).splitlines() if re.match(r"E:|W:", line)]
            raise Unusable("distribution's package: apt-get download failed:\n" + tail("\n".join(faults), 4))
        code, output = run(
            "unpacking",
            ["dpkg-deb", "-x", str(package), str(work / "tree")],
            HOME / "dpkg.log",
            limit_seconds=120,
        )
        inside = work / "tree" / "usr" / "bin" / "etcd"
        if code != 0 or not inside.is_file():
            raise Unusable(
                f"distribution's package: {package.name} does not hold /usr/bin/etcd {output.strip()}"
            )
        binary = keep(inside, "package")
        return binary, f"version {dotted(version_of(binary))}, from the distribution's package {package.name}"
    finally:
        shutil.rmtree(work, ignore_errors=True)


def apt_download(work: Path, said: list[str], *, system_lists: bool) -> Path | None:
    """Return the package's file, by the system's lists or by private ones; ``said`` gets apt's words."""
    options = [
        f"Dir::Cache={work}", "Dir::State::status=/var/lib/dpkg/status", "Debug::NoLocking=1",
        "APT::Sandbox::User=", "Acquire::Retries=1",
        f"Acquire::http::Timeout={CONNECT_SECONDS:.0f}", f"Acquire::https::Timeout={CONNECT_SECONDS:.0f}",
    ]  # fmt: skip
    if not system_lists:
        (work / "state" / "lists").mkdir(parents=True)
        options += [
            f"Dir::State={work / 'state'}",
            f"Dir::State::Lists={work / 'state' / 'lists'}",
            "Acquire::Languages=none",
        ]
    apt = ["apt-get", *(word for option in options for word in ("-o", option))]
    if not system_lists:
        # The exit code says nothing: one dead third-party source, or a hook that wants root, fails it all.
        said.append(
            run("fetching package lists", [*apt, "update"], HOME / "apt.log", limit_seconds=DOWNLOAD_SECONDS)[
                1
            ]
        )
    for name in PACKAGES:
        command = [*apt, "download", name]
        code, output = run(
            f"fetching the package {name}",
            command,
            HOME / "apt.log",
            cwd=work,
            limit_seconds=DOWNLOAD_SECONDS,
        )
        found = sorted(work.glob("*.deb"))
        if code == 0 and found:
            return found[0]
        said.insert(0, output)
    return None


def download(url: str, part: Path) -> Path:
    """Fetch a file; give up after 10 s without a connection, 10 s without data, or 5 minutes."""
    part.parent.mkdir(parents=True, exist_ok=True)
    connected, done = threading.Event(), threading.Event()
    problem: list[str] = []

    def fetch() -> None:
        try:
            with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as answer, part.open("wb") as file:  # noqa: S310
                connected.set()
                shutil.copyfileobj(answer, file, 1 << 20)
        except urllib.error.HTTPError as error:
            problem.append(f"HTTP {error.code} {error.reason}")
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem.append(str(getattr(error, "reason", "") or error))
        finally:
            connected.set()
            done.set()

    # A thread, because looking up a name cannot be given a limit; it ends with this process at the latest.
    with Ticker(f"fetching {url}"):
        threading.Thread(target=fetch, daemon=True).start()
        if not connected.wait(CONNECT_SECONDS):
            raise Unusable(f"{url}: no connection within {CONNECT_SECONDS:.0f} s")
        if not done.wait(DOWNLOAD_SECONDS):
            raise Unusable(f"{url}: not there after {DOWNLOAD_SECONDS:.0f} s")
    if problem:
        raise Unusable(f"{url}: {problem[0]}")
    return part


def check_sha256(archive: Path, wanted: str) -> None:
    """Refuse an archive that is not the pinned one."""
    try:
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unusable(f"{archive}: {error.strerror}") from error
    if found != wanted:
        raise Unusable(f"{archive.name}: wanted SHA-256 {wanted}, found {found}; not used")


def extract(archive: Path) -> Path:
    """Take the etcd binary out of a release archive, and nothing else."""
    target = HOME / "download" / "etcd"
    try:
        with tarfile.open(archive, "r:gz") as tar:
            member = next(
                (item for item in tar if item.isfile() and re.fullmatch(r"etcd-[^/]+/etcd", item.name)), None
            )
            source: BinaryIO | None = tar.extractfile(member) if member else None  # type: ignore[assignment]
            if source is None:
                raise Unusable(f"{archive.name} does not hold etcd-VERSION/etcd")
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise Unusable(f"{archive.name} cannot be unpacked: {error}") from error
    target.chmod(0o755)
    return target


def keep(binary: Path, kind: str) -> Path:
    """Check that the binary runs, then move it, in one step, to where later runs find it."""
    version_of(binary)
    folder = HOME / kind.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return binary.rename(folder / "etcd")


def version_of(binary: Path) -> tuple[int, ...]:
    """Run the binary and return its version; refuse what does not run or is too old."""
    try:
        answer = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            # etcd before 3.5 runs on arm64 only when it is told that this is meant.
            env={**os.environ, "ETCD_UNSUPPORTED_ARCH": "arm64"} if platform.machine() == "aarch64" else None,
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


def architecture() -> str:
    """Return this machine's architecture in the words of the release archives."""
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    if code == 0 and time.monotonic() - started > 1:
        say(f"etcd: {seconds(started)}")
    sys.exit(code)
