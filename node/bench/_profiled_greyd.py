# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""greyd with a sampling profiler inside, for ``bench.py`` alone: SIGUSR1 begins, SIGUSR2 ends.

A timer of the processor's time stops the interpreter some hundred times a second; each sample weighs what
the main thread has used since the last one. The lines and their seconds go to the file that
GREY_BENCH_PROFILE names.
"""

from __future__ import annotations

import dis
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from grey.daemon.main import main

if TYPE_CHECKING:
    from types import FrameType

_EVERY_SECONDS = 0.001
_RESUME = dis.opmap["RESUME"]


class _Sampler:
    def __init__(self) -> None:
        self._seconds: Counter[tuple[str, int, str]] = Counter()
        self._thread = self._thread_began = 0.0
        self._process_began = 0.0

    def begin(self, _: int, __: FrameType | None) -> None:
        self._seconds.clear()
        self._thread = self._thread_began = time.thread_time()
        self._process_began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, _EVERY_SECONDS, _EVERY_SECONDS)

    def sample(self, _: int, frame: FrameType | None) -> None:
        now = time.thread_time()
        self._seconds[_place(frame)] += now - self._thread
        self._thread = now

    def end(self, _: int, __: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        others = time.process_time() - self._process_began - (time.thread_time() - self._thread_began)
        lines = [[*place, seconds] for place, seconds in self._seconds.items()]
        target = Path(os.environ["GREY_BENCH_PROFILE"])
        part = target.with_suffix(".part")
        part.write_text(json.dumps([*lines, ["", 0, "threads", others]]), encoding="utf-8")
        part.rename(target)


def _place(frame: FrameType | None) -> tuple[str, int, str]:
    """Return file, line and function of a sample; ("", 0, "loop") for the event loop's own C code.

    The interpreter looks for signals after a call into C, and when a function begins: what is found at the
    beginning of one that the loop called was the loop.
    """
    if frame is None or _is_loop(frame):
        return ("", 0, "loop")
    code = frame.f_code
    begins = code.co_code[frame.f_lasti] == _RESUME
    if begins and (frame.f_back is None or _is_loop(frame.f_back)):
        return ("", 0, "loop")
    return (code.co_filename, frame.f_lineno or 0, code.co_qualname)


def _is_loop(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return "/uvloop/" in name or name.endswith("asyncio/runners.py")


if __name__ == "__main__":
    sampler = _Sampler()
    signal.signal(signal.SIGUSR1, sampler.begin)
    signal.signal(signal.SIGPROF, sampler.sample)
    signal.signal(signal.SIGUSR2, sampler.end)
    sys.argv[0] = "greyd"
    main()
