# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes .venv from the hashed locks, with the node and the collection in it. Run it through bootstrap.py.

A stamp, written last, holds the digest of everything the environment was made from: without it, a try was cut
short and the environment is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from console import (
    CACHE,
    ROOT,
    Failed,
    exclusive,
    report,
    require_plain_path,
    run,
    say,
    seconds,
    tail,
    write_atomically,
)

VENV = ROOT / ".venv"
STAMP = VENV / "grey-stamp.json"
FORMAT = b"1"  # another one makes every environment be brought up to date
SYSTEM_PYTHON = "/usr/bin/python3"
SETS = ("demo", "dev")  # a later one contains the earlier ones
LOG = CACHE / "log" / "environment.log"


def main(arguments: list[str]) -> int:
    """Bring .venv up to date; 0 when it is, 2 when the user has to do something first."""
    install_missing = "--install-missing" in arguments
    names = [argument for argument in arguments if argument != "--install-missing"] or ["demo"]
    if len(names) != 1 or names[0] not in SETS:
        print("usage: bootstrap.py [demo|dev] [--install-missing]", file=sys.stderr)
        return 2
    try:
        ensure(names[0], install_missing=install_missing)
    except Failed as failure:
        report("bootstrap", failure)
        return 2
    except KeyboardInterrupt:
        print("\nbootstrap: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


def ensure(wanted: str, *, install_missing: bool = False) -> None:
    """Make the environment hold one of the sets; cheap when it already does."""
    require_plain_path(
        ROOT, "this checkout's folder", f"move it, for example: mv {shlex.quote(str(ROOT))} ~/grey"
    )
    if install_missing:
        install_system_venv()
    if up_to_date(wanted):
        return
    with exclusive(CACHE / "environment.lock", "setting up .venv"):
        if up_to_date(wanted):
            return
        started = time.monotonic()
        require_venv_module(install_missing=install_missing)
        stamp = read_stamp()
        # Never shrink: who has the developer's set keeps it.
        name = max(wanted, str(stamp.get("set", wanted)), key=SETS.index)
        if reason := broken(stamp):
            say(f"environment: making .venv with Python {python_version()} ({reason})")
            make_empty_venv()
        else:
            say("environment: bringing .venv up to date (the locks or the node's project file changed)")
            STAMP.unlink()
        install(name)
        link_collection()
        write_atomically(STAMP, json.dumps({"set": name, "venv": str(VENV), **digests()}, indent=1) + "\n")
        say(f"environment: ready in {seconds(started)} (.venv, set {name!r})")


def up_to_date(wanted: str) -> bool:
    """Tell whether .venv was finished here, from these inputs, and its interpreter still runs."""
    stamp = read_stamp()
    if broken(stamp) or SETS.index(str(stamp["set"])) < SETS.index(wanted):
        return False
    made_from = digests()
    return (
        all(stamp.get(key) == made_from[key] for key in (str(stamp["set"]), "node")) and collection_linked()
    )


def read_stamp() -> dict[str, str]:
    """Return what the stamp says, or nothing."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and stamp.get("set") in SETS else {}


def broken(stamp: dict[str, str]) -> str:
    """Say why .venv has to be made anew, or return an empty text."""
    if not VENV.exists():
        return "there is none yet"
    if not stamp:
        return "an earlier try did not finish"
    if stamp.get("venv") != str(VENV):
        return f"the one that is there was made for {stamp.get('venv')}"
    program = "import sys; print(*sys.version_info[:2], sys.prefix)"
    try:
        answer = subprocess.run(
            [VENV / "bin" / "python", "-I", "-c", program],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "its interpreter is gone"
    major, minor, prefix = (*answer.stdout.split(maxsplit=2), "", "", "")[:3]
    if answer.returncode != 0 or prefix.strip() != str(VENV):
        return "its interpreter does not work"
    if not (VENV / "lib" / f"python{major}.{minor}" / "site-packages").is_dir():
        return f"its interpreter has become Python {major}.{minor}"
    return ""


def digests() -> dict[str, str]:
    """Return the digest of what each set is made from, and of what the node's installation is made from."""
    project = tomllib.loads((ROOT / "node" / "pyproject.toml").read_text(encoding="utf-8"))
    installed = {name: project.get(name) for name in ("build-system", "project")}
    installed["hatch"] = project.get("tool", {}).get("hatch")
    inputs = {name: (ROOT / "requirements" / f"{name}.txt").read_bytes() for name in SETS}
    inputs["node"] = json.dumps(installed, sort_keys=True).encode()
    return {name: hashlib.sha256(FORMAT + content).hexdigest() for name, content in inputs.items()}


def python_version() -> str:
    """Return the running Python's version, for example 3.11.2."""
    return sys.version.split()[0]


def require_venv_module(*, install_missing: bool) -> None:
    """Refuse to start without venv and ensurepip; Debian packs them apart from Python."""
    if makes_environments(sys.executable):
        return
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    if install_missing and apt_install(package) and makes_environments(sys.executable):
        return
    raise Failed(
        f"Python {python_version()} ({sys.executable}) has no module ensurepip, so it makes no environments",
        f"Debian and Ubuntu: apt-get install python3-venv   (or {package}), as root\nthen run this again",
    )


def install_system_venv() -> None:
    """Let the distribution's Python make environments: the demo's tests run it without rights."""
    if Path(SYSTEM_PYTHON).exists() and not makes_environments(SYSTEM_PYTHON):
        apt_install("python3-venv")


def makes_environments(python: str) -> bool:
    """Tell whether this Python has what ``python -m venv`` needs."""
    probe = [python, "-I", "-c", "import ensurepip, venv"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def apt_install(package: str) -> bool:
    """Install a package of Debian or Ubuntu when we are root; tell whether that was done."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    say(f"environment: installing {package}, which Python needs to make environments")
    command = f"apt-get update -q; apt-get install -y -q --no-install-recommends {package}"
    code, output = run(
        f"apt-get install {package}",
        ["sh", "-c", command],
        CACHE / "log" / "apt.log",
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
    if code != 0:
        raise Failed(
            f"apt-get install {package} failed:\n{tail(output)}",
            f"install {package} by hand and run this again",
        )
    return True


def make_empty_venv() -> None:
    """Make .venv anew, with nothing but pip in it."""
    if VENV.is_symlink():
        raise Failed(f"{VENV} is a symbolic link, wanted a folder of this checkout", f"rm {VENV}")
    shutil.rmtree(VENV, ignore_errors=True)
    code, output = run("making .venv", [sys.executable, "-m", "venv", str(VENV)], LOG)
    if code != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise Failed(
            f"python -m venv {VENV} failed:\n{tail(output)}",
            "see the lines above; a full disk and a missing python3-venv are usual",
        )


def install(name: str) -> None:
    """Install a lock, every file checked by its hash, and the node from this checkout."""
    lock = ROOT / "requirements" / f"{name}.txt"
    total = len(re.findall(r"^[A-Za-z0-9_.-]+==", lock.read_text(encoding="utf-8"), re.MULTILINE))
    seen: set[str] = set()

    def detail(line: str) -> str | None:
        if match := re.match(r"(?:Collecting|Requirement already satisfied:) ([A-Za-z0-9_.-]+)", line):
            seen.add(match[1].lower())
            return f"{len(seen)} of {total}: {match[1]}"
        return "writing files" if line.startswith("Installing collected") else None

    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--no-input", "--disable-pip-version-check"]
    where: list[str] = []
    if folder := os.environ.get("GREY_WHEELHOUSE"):
        if not Path(folder).is_dir():
            raise Failed(
                f"GREY_WHEELHOUSE={folder} is not a folder",
                "name a folder that holds the wheels of " + str(lock),
            )
        where = ["--no-index", "--find-links", folder]
    # Without a network pip's own limits (15 s, 5 retries per file) keep the user waiting for minutes.
    environment = {"PIP_RETRIES": "2", "PIP_DEFAULT_TIMEOUT": "15", **os.environ}
    command = [*pip, "install", "--require-hashes", "--only-binary", ":all:", *where, "-r", str(lock)]
    code, output = run(f"installing {total} packages", command, LOG, env=environment, detail=detail)
    if code != 0:
        raise pip_failure(code, output, lock)
    command = [
        *pip,
        "install",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--editable",
        str(ROOT / "node"),
    ]
    code, output = run("installing the node", command, LOG.with_name("node.log"), env=environment)
    if code != 0:
        raise Failed(
            f"installing the node from {ROOT / 'node'} failed:\n{tail(output)}", "see the lines above"
        )


def pip_failure(code: int, output: str, lock: Path) -> Failed:
    """Turn pip's output into what happened and what to do."""
    if code == 124:
        return Failed(
            "pip took more than 15 minutes",
            f"look into {LOG}, then run this again: what is downloaded is kept",
        )
    if "No space left on device" in output:
        return Failed(
            "the disk is full",
            f"make room (about 600 MB) below {ROOT} and for pip's cache, then run this again",
        )
    if "DO NOT MATCH THE HASHES" in output:
        return Failed(
            f"a downloaded file is not the one that {lock.name} names:\n{tail(output, 12)}",
            "do not use it. A cache or mirror may hold a damaged file: pip cache purge, then run this again",
        )
    unreachable = (
        "NewConnectionError",
        "NameResolutionError",
        "ConnectTimeout",
        "ReadTimeout",
        "ProxyError",
        "Connection broken",
    )
    words = "\n".join(line for line in output.splitlines() if not re.match(r"WARNING|ERROR: Ignored", line))
    if any(word in output for word in unreachable) or "(from versions: none)" in output:
        source = os.environ.get("GREY_WHEELHOUSE") or "the package index that pip is set up for"
        return Failed(
            f"packages cannot be had from {source}:\n{tail(words, 3)}",
            "check the network, or pip's settings for a mirror or proxy (pip config list); run this again;\n"
            "or, without a network: on a machine that has one, run\n"
            f"    pip download --only-binary :all: -r requirements/{lock.name} -d wheels\n"
            "copy the folder here, and run this again with GREY_WHEELHOUSE=/path/to/wheels",
        )
    return Failed(f"pip failed:\n{tail(words)}", f"the whole output is in {LOG}")


def site_packages() -> Path:
    """Return the folder of .venv that packages are installed into."""
    folders = sorted((VENV / "lib").glob("python3.*/site-packages"))
    if not folders:
        raise Failed(f"no site-packages below {VENV / 'lib'}", f"rm -rf {VENV}")
    return folders[0]


def collection_linked() -> bool:
    """Tell whether Ansible finds the collection of this checkout as grey.distributed."""
    link = site_packages() / "ansible_collections" / "grey" / "distributed"
    return link.is_symlink() and link.readlink() == ROOT


def link_collection() -> None:
    """Let Ansible find the collection of this checkout as grey.distributed."""
    link = site_packages() / "ansible_collections" / "grey" / "distributed"
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    link.symlink_to(ROOT, target_is_directory=True)
