# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a scenario, reached by SSH as their administrator reaches them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest
import testinfra
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.prefix) / "bin"
SCENARIOS = ROOT / "extensions" / "molecule"

# Molecule has Ansible colour its output, and tests read it.
PLAIN = {
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_FORCE_COLOR": "false",
    "ANSIBLE_NOCOLOR": "true",
}


class Fleet(Mapping[str, Host]):
    """Hosts by name; commands run as root there, over one connection per host that is kept."""

    def __init__(self, scenario: str, home: Path) -> None:
        self.scenario = scenario
        self.home = home
        self.inventory = ["-i", str(SCENARIOS / scenario / "inventory")]
        made = json.loads((home / "fleet.json").read_text(encoding="utf-8"))
        self.networks: dict[str, str] = made["networks"]
        self.addresses: dict[str, dict[str, str]] = made["hosts"]
        self.names: dict[str, list[str]] = made["names"]
        self.block: int = made["block"]
        self._sockets = Path(tempfile.mkdtemp(prefix="gt"))  # short: paths of unix sockets are limited
        self._hosts = {name: self._host(name, "sudo=True&") for name in self.addresses}

    @classmethod
    def of_scenario(cls) -> Self:
        """Return the fleet of the scenario that Molecule runs these tests for."""
        scenario = os.environ.get("MOLECULE_SCENARIO_NAME", "federation")
        # Scenarios that share their hosts share the inventory that these are named after.
        home = ROOT / ".cache" / "fleet" / (SCENARIOS / scenario / "inventory").resolve().parent.name
        if not (home / "fleet.json").exists():
            pytest.exit(f"no fleet in {home}; next: make molecule SCENARIO={scenario}", 2)
        return cls(scenario, home)

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections, so that no ssh process outlives the tests."""
        for name in self:
            subprocess.run([*self._ssh(name)[:5], "-O", "exit", name], check=False, capture_output=True)
        shutil.rmtree(self._sockets)

    def cluster(self, name: str) -> list[str]:
        """Return the hosts of a cluster."""
        return [host for host in self if host.rpartition("-")[0] == name]

    def site(self, name: str) -> str:
        """Return the name of a host's own network."""
        (site,) = (network for network in self.addresses[name] if network != "interconnect")
        return site

    def address(self, name: str, network: str = "interconnect") -> str:
        """Return a host's address in one of its networks."""
        return self.addresses[name][network]

    def as_admin(self, name: str) -> Host:
        """Return a host whose commands run as the account that logs in, without rights."""
        return self._host(name, "")

    def everywhere(self, command: str, hosts: Iterable[str] | None = None) -> dict[str, str]:
        """Run a command as root on all hosts at once; return what each printed. All must succeed."""
        chosen = list(self if hosts is None else hosts)
        with ThreadPoolExecutor(max_workers=len(chosen)) as pool:
            said = pool.map(lambda name: self[name].check_output(command), chosen)
            return dict(zip(chosen, said, strict=True))

    def docker(self, *words: str) -> str:
        """Do something to a host from outside: ``docker("kill", "--signal", "KILL", "aws-east-1")``."""
        *command, name = words
        command = ["docker", *command, f"grey-{self.block}-{name}"]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    def await_ssh(self, name: str) -> None:
        """Wait until a host that was started lets its administrator in."""
        probe = [*self._ssh(name), "-o", "ConnectTimeout=2", name, "true"]
        wait_for(
            lambda: subprocess.run(probe, check=False, capture_output=True).returncode == 0, f"ssh {name}"
        )

    def made_anew(self, name: str) -> None:
        """Let a host be lost with everything on it, and another one take its name and its addresses."""
        self.docker("rm", "--force", "--volumes", name)
        subprocess.run([*self._ssh(name)[:5], "-O", "exit", name], check=False, capture_output=True)
        subprocess.run(
            [sys.executable, str(ROOT / "tools" / "fleet.py"), "up", self.home.name],
            input=(self.home / "fleet.json").read_bytes(), check=True, capture_output=True, timeout=300,
        )  # fmt: skip
        self.await_ssh(name)
        # Connections that Ansible kept open notice within seconds that their host is gone.
        wait_for(
            lambda: self.ansible("ansible", name, "-m", "ansible.builtin.ping", check=False).returncode == 0,
            f"Ansible to reach {name} again",
        )

    def ansible(self, *words: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ansible or a playbook with the scenario's inventory."""
        program, *arguments = words
        command = [str(BIN / program), *self.inventory, *arguments]
        started = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **PLAIN, **variables},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=1200, check=False,
        )  # fmt: skip
        print(f"$ {' '.join(command)}  ({time.monotonic() - started:.1f} s)\n{done.stdout}")
        if check:
            assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        return done

    def _ssh(self, name: str) -> list[str]:
        options = [f"ControlPath={self._sockets / name}", "ControlMaster=no"]
        return [
            "ssh",
            "-F",
            str(self.home / "ssh_config"),
            *(word for one in options for word in ("-o", one)),
        ]

    def _host(self, name: str, more: str) -> Host:
        options = f"ssh_config={self.home / 'ssh_config'}&controlpersist=600"
        return testinfra.get_host(f"ssh://{name}?{more}{options}&controlpath={self._sockets / name}")


def wait_for(holds: Callable[[], Any], what: str, limit_seconds: float = 60.0) -> Any:
    """Wait until something holds, and return it; say what was waited for when it never does."""
    deadline = time.monotonic() + limit_seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"waited {limit_seconds:.0f} s in vain for {what}"
        time.sleep(0.2)
    return found
