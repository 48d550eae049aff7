#!/usr/bin/env python3
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the fleet's host image from tests/image with mmdebstrap and the machine's own apt sources.

Prints its name, grey-host:DIGEST, where the digest is that of all inputs: what is there is not made again.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import get_docker
from console import CACHE, ROOT, Failed, exclusive, report, run, say, seconds, tail

INPUTS = ROOT / "tests" / "image"
NAME = "grey-host"
HOME = CACHE / "image"
LABEL = "grey.image"
FORMAT = "1"  # another one makes every image anew
UNWANTED = ("doc", "man", "locale", "info", "lintian")
# Each as the mirror itself calls it, whatever form the files below /etc/apt have.
TARGETS = "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(ORIGIN)\t$(SIGNED_BY)"


def main() -> int:
    """Make the image when it is not there; 0 when it is, 2 when the user has to do something first."""
    try:
        get_docker.ensure()
        name = ensure()
    except Failed as failure:
        report("image", failure)
        return 2
    except KeyboardInterrupt:
        print("\nimage: interrupted; run it again to go on", file=sys.stderr)
        return 130
    say(f"image: {name}")
    return 0


def ensure() -> str:
    """Return the image's name; make it when Docker does not have it."""
    # One lock for all checkouts of the machine: they share Docker, and the inputs are mostly the same.
    with exclusive(Path("/tmp") / f"{NAME}-image-{os.geteuid()}.lock", "making the host image"):  # noqa: S108
        lines = sources()
        name = f"{NAME}:{digest(lines)}"
        if not exists(name):
            started = time.monotonic()
            make(name, lines)
            say(f"image: made {name} in {seconds(started)}")
        return name


def packages() -> list[str]:
    """Return the packages that the image holds besides the essential ones."""
    lines = (INPUTS / "packages.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def digest(lines: list[str]) -> str:
    """Return the digest of all that the image is made from."""
    text = "\n".join([FORMAT, *packages(), *lines, platform.machine()])
    return hashlib.sha256((INPUTS / "setup.sh").read_bytes() + text.encode()).hexdigest()[:12]


def exists(name: str) -> bool:
    """Tell whether Docker has the image."""
    command = ["docker", "image", "inspect", name]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def sources() -> list[str]:
    """Return the distribution's own apt sources, one line each; other publishers' are left out."""
    if not (found := list(targets())):
        # Lists may never have been fetched here, or were removed, as in small images.
        run("apt-get update", ["apt-get", "update", "-q"], CACHE / "log" / "apt-update.log")
        found = list(targets())
    if not found:
        raise Failed(
            "no apt source of Debian or Ubuntu itself is set up on this machine (apt-get indextargets)",
            "make apt-get update work, as root, and run this again",
        )
    return list(dict.fromkeys(found))


def targets() -> Iterator[str]:
    """Yield each source that apt has lists of."""
    command = ["apt-get", "indextargets", "--format", TARGETS, "Created-By: Packages"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    for line in sorted(done.stdout.splitlines()):
        uri, release, component, origin, *signed = line.split("\t")
        if origin in ("Debian", "Ubuntu"):
            # apt prints the name of the field where there is none.
            key = signed[0] if signed and signed[0].startswith("/") else ""
            yield f"deb {f'[signed-by={key}] ' if key else ''}{uri} {release} {component}"


def proxies() -> list[str]:
    """Return the machine's apt proxies as mmdebstrap's options: it does not read them itself."""
    done = subprocess.run(["apt-config", "dump", "Acquire"], check=False, capture_output=True, text=True)
    found = re.findall(r'^(Acquire::https?::Proxy) "([^"]+)";', done.stdout, re.MULTILINE)
    return [f'--aptopt={name} "{value}"' for name, value in found]


def make(name: str, lines: list[str]) -> None:
    """Make the file system, import it, and forget older images of ours that nothing uses."""
    HOME.mkdir(parents=True, exist_ok=True)
    archive = HOME / "host.tar"
    about = Path("/etc/os-release").read_text(encoding="utf-8")
    release = re.search(r"^VERSION_CODENAME=(\S+)", about, re.MULTILINE)
    command = [
        "mmdebstrap", "--mode=auto", "--variant=apt", f"--include={','.join(packages())}",
        *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in UNWANTED),
        *proxies(), f'--customize-hook={INPUTS}/setup.sh "$1"',
        release[1] if release else "stable", str(archive), *lines,
    ]  # fmt: skip
    code, output = run("making the host image", command, HOME / "mmdebstrap.log")
    if code != 0:
        raise Failed(
            f"mmdebstrap failed:\n{tail(output)}",
            f"the whole output is in {HOME / 'mmdebstrap.log'}; it needs root (or user namespaces), 2 GB of\n"
            "room, and apt sources that hold the packages of tests/image/packages.txt",
        )
    change = ["--change", f"LABEL {LABEL}={ROOT}", "--change", 'CMD ["/sbin/init"]']
    code, output = run("importing it", ["docker", "import", *change, str(archive), name], HOME / "import.log")
    archive.unlink()
    if code != 0:
        raise Failed(f"docker import failed:\n{tail(output)}", "a full disk below /var/lib/docker is usual")
    forget_older(name)


def forget_older(name: str) -> None:
    """Remove the images that this checkout made before; Docker keeps those that containers use."""
    own = f"label={LABEL}={ROOT}"
    command = ["docker", "images", "--filter", own, "--format", "{{.Repository}}:{{.Tag}}"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    for older in listed:
        if older != name:
            subprocess.run(["docker", "rmi", older], check=False, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
