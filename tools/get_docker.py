#!/usr/bin/env python3
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds or starts Docker for the test fleet; as root on Debian and Ubuntu it installs what is missing.

A daemon that this starts keeps running; its output is in .cache/docker/dockerd.log.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from console import CACHE, Failed, Ticker, exclusive, report, run, say, seconds, tail

LOG = CACHE / "docker" / "dockerd.log"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # a user's PATH may lack sbin
PACKAGES = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "mmdebstrap": "mmdebstrap",
    "ssh": "openssh-client",
    "iptables": "iptables",
}
PID_FILES = {"dockerd": "/var/run/docker.pid", "containerd": "/var/run/docker/containerd/containerd.pid"}
START_SECONDS = 60.0
CGROUP = Path("/sys/fs/cgroup")


def main() -> int:
    """Make Docker answer; 0 when it does, 2 when the user has to do something first."""
    started = time.monotonic()
    try:
        version = ensure()
    except Failed as failure:
        report("get_docker", failure)
        return 2
    except KeyboardInterrupt:
        print("\nget_docker: interrupted; run it again to go on", file=sys.stderr)
        return 130
    say(f"docker: {version} ({seconds(started)})")
    return 0


def ensure() -> str:
    """Install and start what is missing; return the daemon's version."""
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    with exclusive(CACHE / "docker" / "lock", "setting up Docker"):
        version = daemon_version()
        # With a daemon that answers, wherever its program is, only the other programs are needed.
        wanted = [name for name in PACKAGES if not (version and name in ("dockerd", "iptables"))]
        install([name for name in wanted if not shutil.which(name)])
        prepare_cgroups()
        if not (version := version or daemon_version()):
            start()
            version = daemon_version()
    return version


def daemon_version() -> str:
    """Return the version of the daemon that answers, or nothing."""
    if not shutil.which("docker"):
        return ""
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def install(missing: list[str]) -> None:
    """Install the packages of missing programs, when this is Debian or Ubuntu and we are root."""
    if not missing:
        return
    packages = sorted({PACKAGES[name] for name in missing})
    words = f"apt-get install {' '.join(packages)}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failed(
            f"the test fleet needs {', '.join(missing)}: not in PATH, and only root on Debian or Ubuntu"
            " can have it installed from here",
            f"as root: {words}\n(elsewhere: Docker 20.10, mmdebstrap, an ssh client); run this again",
        )
    say(f"docker: installing {', '.join(packages)}")
    # Recommended packages are wanted only where they matter: cgroups are mounted below if nobody did.
    command = f"apt-get update -q; apt-get install -y -q --no-install-recommends {' '.join(packages)}"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": SYSTEM_PATH}
    code, output = run(words, ["sh", "-c", command], CACHE / "log" / "apt-docker.log", env=environment)
    still = [name for name in missing if not shutil.which(name)]
    if code != 0 or still:
        raise Failed(
            f"{words} failed{', there is still no ' + ', '.join(still) if still else ''}:\n{tail(output)}",
            f"install {' '.join(packages)} by hand and run this again",
        )


def prepare_cgroups() -> None:
    """Mount what a systemd inside a container needs, where no systemd of the machine's own did."""
    if os.geteuid() != 0 or not Path("/proc/mounts").exists():
        return
    mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    at_root = {words[2] for words in mounts if words[1] == str(CGROUP)}
    named = any(words[2] == "cgroup" and "name=systemd" in words[3].split(",") for words in mounts)
    if not at_root:
        mount("cgroup2", CGROUP)
    elif "cgroup2" not in at_root and not named:
        (CGROUP / "systemd").mkdir(exist_ok=True)
        mount("cgroup", CGROUP / "systemd", "none,name=systemd")


def mount(kind: str, where: Path, options: str = "") -> None:
    """Mount a file system of the kernel's."""
    command = ["mount", "-t", kind, *(["-o", options] if options else []), kind, str(where)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(
            f"{' '.join(command)} failed: {done.stderr.strip()}",
            "the fleet's hosts run systemd and need it: use a machine (or a container) that may mount",
        )


def start() -> None:
    """Start the daemon: by systemd where it runs, else ourselves, so that it goes on when we end."""
    if os.geteuid() != 0:
        raise Failed(
            "no Docker daemon answers, and only root can start one",
            "start it (systemctl start docker), and be root or in the group docker; run this again",
        )
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "start", "docker"], check=False)
        await_daemon(None)
        return
    remove_stale_pid_files()
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True, cwd="/", preexec_fn=hear_signals,
        )  # fmt: skip
    await_daemon(process)


def hear_signals() -> None:
    """A background job's ignored interrupts are not for the daemon's children to inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def remove_stale_pid_files() -> None:
    """Remove files of killed daemons: dockerd refuses to start while *any* process has that number."""
    for program, path in PID_FILES.items():
        if (name := process_of(path)) and name != program:
            Path(path).unlink()


def process_of(path: str) -> str:
    """Return the name of the process whose number a file holds; nothing when there is none."""
    try:
        number = int(Path(path).read_text(encoding="utf-8"))
        return Path(f"/proc/{number}/comm").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def await_daemon(process: subprocess.Popen[bytes] | None) -> None:
    """Wait until the daemon answers, or say why it does not."""
    deadline = time.monotonic() + START_SECONDS
    with Ticker("starting dockerd"):
        while not daemon_version():
            # The package's own script may have started one at the same time: ours ends, and that one answers.
            other = process_of(PID_FILES["dockerd"]) == "dockerd"
            ended = process is not None and process.poll() is not None and not other
            if ended or time.monotonic() > deadline:
                written = LOG.read_text(encoding="utf-8", errors="replace") if process else ""
                how = "ended at once" if ended else f"does not answer after {START_SECONDS:.0f} s"
                raise Failed(
                    f"dockerd {how}:\n{tail(written, 15) or '    journalctl -u docker says why'}",
                    f"the whole output is in {LOG}; without iptables, an overlay file system or cgroups\n"
                    "no machine can run it, and a container must be privileged",
                )
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
