# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tools share: failures with a next step, steps that show progress, an exclusive lock.

Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
SILENT_SECONDS = 15.0  # without a terminal, long work says this often that it is alive


class Failed(Exception):
    """Something that the user has to know: what happened and the next step."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def report(tool: str, failure: Failed) -> None:
    """Print a failure to standard error in the form that all tools share."""
    sys.stdout.flush()
    print(f"{tool}: {failure.message}", file=sys.stderr)
    if failure.next_step:
        first, *rest = failure.next_step.splitlines()
        print(
            "\n".join([f"  next: {first}", *(f"        {line}" for line in rest)]),
            file=sys.stderr,
            flush=True,
        )


def require_plain_path(path: Path, what: str, next_step: str) -> None:
    """Refuse a folder of which programs' first lines, PATH, Ansible or supervisor would take a part only."""
    strange = sorted(set(re.sub(r"[\w./+@~-]", "", str(path))))
    if strange:
        found = " ".join("a space" if character == " " else repr(character) for character in strange)
        raise Failed(
            f"{what} is {path}: wanted a path of letters, digits and ./+@~_- only, found {found}", next_step
        )


def seconds(since: float) -> str:
    """Return the time since a ``time.monotonic()`` value as text, for example ``4.2 s``."""
    return f"{time.monotonic() - since:.1f} s"


class Ticker:
    """Shows that a step is alive: one line that is rewritten on a terminal, a line now and then elsewhere."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._detail = ""
        self._started = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def detail(self, text: str) -> None:
        """Say what the step is doing just now."""
        self._detail = text

    def __enter__(self) -> Ticker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        if sys.stdout.isatty():
            print("\r\x1b[K", end="", flush=True)

    def _run(self) -> None:
        terminal = sys.stdout.isatty()
        while not self._end.wait(0.2 if terminal else SILENT_SECONDS):
            line = f"{self._label} ({seconds(self._started)}) {self._detail}"[:110]
            print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n", flush=True)


def run(
    label: str,
    command: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    limit_seconds: float = 900.0,
    detail: Callable[[str], str | None] | None = None,
) -> tuple[int, str]:
    """Run a command with its output in ``log`` and progress on the screen; return its exit code and output.

    ``detail`` turns a line of output into what to show beside the label. The command and its children are
    killed after ``limit_seconds`` (exit code 124) and when this process is interrupted.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    with (
        log.open("w", encoding="utf-8") as file,
        Ticker(label) as ticker,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", env=env, cwd=cwd, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        watchdog = threading.Timer(limit_seconds, end_group, [process])
        watchdog.daemon = True
        watchdog.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                file.flush()
                lines.append(line)
                if detail is not None and (text := detail(line)) is not None:
                    ticker.detail(text)
            code = process.wait()
        except BaseException:
            end_group(process)
            raise
        finally:
            timed_out = watchdog.finished.is_set()
            watchdog.cancel()
    return (124 if timed_out and code != 0 else code), "".join(lines)


def end_group(process: subprocess.Popen[str]) -> None:
    """End a process that was started in its own session, with its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def tail(text: str, lines: int = 25) -> str:
    """Return the last lines of an output, indented."""
    return "\n".join("    " + line for line in text.rstrip().splitlines()[-lines:])


@contextlib.contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file; wait, and say so, while another process holds it. The dead free it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = re.sub(r"\D", "", file.read()) or "unknown"
            say(f"waiting: {what} is under way in another run (process {holder})")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
