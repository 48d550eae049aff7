# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching one file within a bounded time."""

from __future__ import annotations

import http.client
import shutil
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CONNECT_SECONDS = 10.0
DOWNLOAD_SECONDS = 300.0


class Unusable(Exception):
    """A source cannot provide what is wanted; the text says why, and the next source is tried."""


def fetch(url: str, part: Path) -> Path:
    """Fetch a file; give up after 10 s without a connection, 10 s without data, or 5 minutes."""
    part.parent.mkdir(parents=True, exist_ok=True)
    connected, done = threading.Event(), threading.Event()
    problem: list[str] = []
    opener = urllib.request.build_opener()  # knows the proxies of the environment

    def work() -> None:
        try:
            with opener.open(url, timeout=CONNECT_SECONDS) as answer, part.open("wb") as file:
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
    threading.Thread(target=work, daemon=True).start()
    if not connected.wait(CONNECT_SECONDS):
        raise Unusable(f"{url}: no connection within {CONNECT_SECONDS:.0f} s")
    if not done.wait(DOWNLOAD_SECONDS):
        raise Unusable(f"{url}: not there after {DOWNLOAD_SECONDS:.0f} s")
    if problem:
        raise Unusable(f"{url}: {problem[0]}")
    return part
