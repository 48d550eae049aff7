# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo as its user sees it, and what a tester does to it: kill, take ports, write while it breaks."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).resolve().parents[2]
PORTS = (2379, 2380, 8080, 8443, 9090)
NETWORKS = range(78, 96)  # 127.77 is a developer's own demo
HOSTS = {
    "aws-east": "grey-east.example.com",
    "gcp-west": "grey-west.example.com",
    "edge-chicago": "grey-chi.edge.internal",
}
PASSED_ON = re.compile(r"(?i)(PIP_.*|SSL_CERT_.*|(https?|no|all)_proxy|GREY_ETCD_.*|GREY_WHEELHOUSE|TZ)")
LIMIT_SECONDS = 600


class Demo:
    """The demo as its user sees it (make, grey-ctl), and what a tester may do besides."""

    def __init__(self, home: Path, network: str, user: pwd.struct_passwd | None, python: str) -> None:
        self.checkout = home / "grey"
        self.root = home / "d"
        self.network = network
        self.user = user
        self._python = python
        self._environment = {
            **{name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)},
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "xx_YY.UTF-8",  # as after ssh from a machine whose locale this one lacks
            "USER": user.pw_name if user else os.environ.get("USER", "root"),
            "GREY_DEMO_ROOT": str(self.root),
            "GREY_DEMO_NET": network,
            "GREY_CTL_CONFIG": str(self.root / "controller" / "ctl.yaml"),
        }

    def run(self, *command: str, check: bool = True, apart: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command in the checkout as the demo's user; ``apart`` keeps the errors out of ``stdout``."""
        account = (
            {}
            if self.user is None
            else {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        )
        started = time.monotonic()
        done = subprocess.run(
            command, cwd=self.checkout, env=self._environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if apart else subprocess.STDOUT,
            text=True, timeout=LIMIT_SECONDS, check=False, **account,
        )  # fmt: skip
        said = f"{done.stdout}{done.stderr or ''}"
        print(f"$ {' '.join(command)}  ({time.monotonic() - started:.1f} s)\n{said}")
        if check:
            assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{said[-6000:]}"
        return done

    def make(self, target: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run make with a Python that the demo's user can run."""
        return self.run("make", "--no-print-directory", target, f"PYTHON={self._python}", check=check)

    def grey_ctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run grey-ctl; warnings are in ``stderr``."""
        return self.run(".venv/bin/grey-ctl", *arguments, check=check, apart=True)

    def playbook(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the deployment's playbook itself."""
        deploy = ("playbooks/deploy.yml", "-i", "inventories/local")
        return self.ansible("ansible-playbook", *deploy, *arguments, check=check)

    def ansible(
        self, *command: str, check: bool = True, apart: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run one of Ansible's programs in a shell that has sourced .demo/env."""
        shell = ("sh", "-c", '. "$0" && exec "$@"', str(self.root / "env"))
        return self.run(*shell, *command, check=check, apart=apart)

    def status(self, *, check: bool = True) -> dict[str, str]:
        """Return each cluster's status; without ``check``, nothing while nobody answers."""
        asked = ("federation", "status", "--federation", "global-grey", "-o", "json")
        done = self.grey_ctl(*asked, check=check)
        clusters = json.loads(done.stdout)["clusters"] if done.returncode == 0 else []
        return {cluster["name"]: cluster["status"] for cluster in clusters}

    def processes(self) -> dict[int, str]:
        """Return number and kind of each process of the deployment: supervisord, etcd or greyd."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    marks = (entry / "environ").read_bytes().split(b"\0")
                    words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    if any(mark.startswith(f"GREY_INSTANCE={self.root}/".encode()) for mark in marks):
                        programs = [Path(word).name for word in words[:2]]
                        known = ("supervisord", "greyd", "etcd")
                        kind = next((name for name in known if name in programs), words[0])
                        found[int(entry.name)] = kind
        return found

    def kill(self, *kinds: str) -> set[int]:
        """Kill -9 all processes of some kinds (all when none is named); wait until they are gone."""
        chosen: set[int] = set()

        def none_left() -> bool:
            found = {pid for pid, kind in self.processes().items() if not kinds or kind in kinds}
            # What a supervisor has started meanwhile goes too when everything is to go.
            chosen.update(found if not (kinds and chosen) else ())
            for pid in chosen & found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not chosen & found

        wait_for(none_left, f"the killed {kinds or 'processes'} to be gone")
        return chosen

    def address(self, cluster: str) -> str:
        """Return the loopback address of a cluster's only host."""
        return f"{self.network}.{1 + list(HOSTS).index(cluster)}.1"

    def connect(self, cluster: str) -> http.client.HTTPSConnection:
        """Open a connection to a cluster's key-value API, with the operator's certificate."""
        files = self.root / "controller"
        context = ssl.create_default_context(cafile=str(files / "operator-ca.pem"))
        context.load_cert_chain(files / "operator-cert.pem", files / "operator-key.pem")

        class Connection(http.client.HTTPSConnection):
            def connect(self) -> None:
                plain = socket.create_connection((self.address, 8080), timeout=self.timeout)
                self.sock = context.wrap_socket(plain, server_hostname=self.host)

        connection = Connection(HOSTS[cluster], 8080, timeout=10)
        connection.address = self.address(cluster)
        return connection

    def values(self, cluster: str, prefix: str) -> dict[str, str]:
        """Return every key with a prefix and its base64 value, as this cluster has them now."""
        found: dict[str, str] = {}
        connection = self.connect(cluster)
        query = {"prefix": prefix, "limit": "1000", "values": "true"}
        try:
            while True:
                connection.request("GET", f"/v1/kv?{urllib.parse.urlencode(query)}")
                answer = connection.getresponse()
                page = json.loads(answer.read())
                assert answer.status == 200, page
                found |= {item["key"]: item["value_base64"] for item in page["items"]}
                if not page["next"]:
                    return found
                query["after"] = page["next"]
        finally:
            connection.close()


class Writer:
    """Writes as fast as it can to the primary, in the background, and remembers what was acknowledged."""

    def __init__(self, demo: Demo, prefix: str) -> None:
        self.prefix = prefix
        self.acknowledged: set[str] = set()
        self._demo = demo
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        connection = self._demo.connect("aws-east")
        number = 0
        while not self._end.is_set():
            number += 1
            key = f"{self.prefix}{number}"
            try:
                connection.request("PUT", f"/v1/kv/{urllib.parse.quote(key, safe='')}", body=str(number))
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    self.acknowledged.add(key)
            except (OSError, http.client.HTTPException):
                connection.close()
                self._end.wait(0.02)
        connection.close()


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)


def free_network() -> str:
    """Return the first loopback network on which nobody holds a port of the demo."""
    for number in NETWORKS:
        with contextlib.ExitStack() as stack:
            try:
                for third in (1, 2, 3):
                    for port in PORTS:
                        stack.enter_context(socket.create_server((f"127.{number}.{third}.1", port)))
            except OSError:
                continue
            return f"127.{number}"
    pytest.fail(f"no loopback network of 127.{NETWORKS[0]} to 127.{NETWORKS[-1]} has the ports {PORTS} free")


def account() -> pwd.struct_passwd | None:
    """Return the account without rights to use when we are root; None when we have no rights ourselves."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def as_user(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """Return the options of ``subprocess`` that run a program as this account."""
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def usable_python(user: pwd.struct_passwd | None) -> str:
    """Return a Python that this account can run and make environments with."""
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    candidates = [str(base), *(f"/usr/bin/python3{minor}" for minor in (".13", ".12", ".11", ""))]
    program = "import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))"
    for candidate in candidates:
        with contextlib.suppress(OSError):
            done = subprocess.run(
                [candidate, "-c", program], cwd="/", capture_output=True, check=False, **as_user(user)
            )
            if done.returncode == 0:
                return candidate
    pytest.fail(
        f"the account {user.pw_name if user else 'in use'} can run none of {', '.join(candidates)} "
        "with venv and ensurepip; as root: apt-get install python3-venv"
    )
