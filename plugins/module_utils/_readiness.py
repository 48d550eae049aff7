# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting until a program that was started is ready, and no longer than it keeps running."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_SECONDS = 0.25
_ASK_SECONDS = 5.0
_ENDS = 3
_WORDS = 500


def await_ready(url: str, timeout_seconds: float, pid: Callable[[], int]) -> str | None:
    """Wait until ``url`` answers 200; return what was found instead, None when it did.

    ``pid`` tells the program's process. On a slow machine a program that cannot start runs for a while each
    time: one that ended three times meanwhile is given up.
    """
    deadline = time.monotonic() + timeout_seconds
    seen: set[int] = set()
    while True:
        found = _ask(url)
        if found is None:
            return None
        seen.add(pid())
        ended = len(seen - {0}) - 1
        if ended >= _ENDS:
            return f"it ended {ended} times before it was ready"
        if time.monotonic() >= deadline:
            return f"it was not ready after {timeout_seconds:g} s ({url}: {found})"
        time.sleep(_POLL_SECONDS)


def _ask(url: str) -> str | None:
    # A proxy that the environment names has nothing to do with this host's own ports.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_ASK_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(_WORDS).decode(errors="replace").strip()
        return f"{error.code} {said}".strip()
    except urllib.error.URLError as error:
        return str(error.reason)
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
