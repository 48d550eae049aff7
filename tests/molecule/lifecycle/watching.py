# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes on while a playbook runs: reads by the client library, and which hosts are ready when."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from grey.client import Client, Consistency, GreyError

from deployed import METRICS, Writer
from hosts import Fleet


class Background(ABC):
    """Does something again and again, until the end of a ``with``."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            self.once()

    @abstractmethod
    def once(self) -> None:
        """Do it once."""


class Reader(Background):
    """Reads what a writer wrote, strongly on the primary; remembers what failed and what was missing."""

    def __init__(self, client: Client, writer: Writer) -> None:
        super().__init__()
        self.reads = 0
        self.failed: list[str] = []
        self._client = client
        self._writer = writer

    def once(self) -> None:
        """Read the newest acknowledged key."""
        key = self._writer.acknowledged[-1]
        try:
            found = self._client.get(key, consistency=Consistency.STRONG, timeout_seconds=60)
        except GreyError as error:
            self.failed.append(f"{key}: {error}")
            return
        self.reads += 1
        if found is None:
            self.failed.append(f"{key}: acknowledged, and missing")


class Readiness(Background):
    """Asks every host whether it is ready; remembers which ever were not, and when two were not at once."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self.away: list[str] = []
        self.together: list[list[str]] = []
        self._fleet = fleet
        self._pool = ThreadPoolExecutor(max_workers=len(fleet))

    def __exit__(self, *details: object) -> None:
        super().__exit__(*details)
        self._pool.shutdown()

    def once(self) -> None:
        """Ask all hosts at once."""
        answers = zip(self._fleet, self._pool.map(self._ready, self._fleet), strict=True)
        away = [host for host, ready in answers if not ready]
        self.away += [host for host in away if host not in self.away]
        if len(away) > 1:
            self.together.append(away)
        self._end.wait(0.1)

    def _ready(self, host: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._fleet.address(host)}:{METRICS}/ready", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False
