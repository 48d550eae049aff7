# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running grey-ctl, greyd and their like, and reading the JSON they print."""

from __future__ import annotations

import errno
import json
import os
import pwd
import shlex
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KEPT = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR")


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    command: tuple[str, ...]
    code: int
    output: str
    errors: str

    def json(self) -> Any:
        """Return the JSON on standard output. Fails with what was printed instead."""
        try:
            return json.loads(self.output)
        except ValueError:
            raise GreyError(
                f"{shlex.join(self.command)}: wanted JSON on standard output, found (exit {self.code}): "
                f"{self.said()}"
            ) from None

    def object(self) -> dict[str, Any]:
        """Return the JSON object on standard output. Fails with what was printed instead."""
        found = self.json()
        if not isinstance(found, dict):
            raise GreyError(f"{shlex.join(self.command)}: wanted a JSON object, found: {self.said()}")
        return found

    def said(self) -> str:
        """Return the end of what the command printed, its errors first."""
        text = "\n".join(part.strip() for part in (self.errors, self.output) if part.strip())
        return text[-2000:] or "nothing"


def run(
    command: Sequence[str],
    *,
    timeout_seconds: float,
    environment: Mapping[str, str] | None = None,
    user: str = "",
) -> Answer:
    """Run a command to its end, as ``user`` when that is another one than the present.

    Fails when it cannot be started, when there is no such user, or when it takes longer than allowed.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    other = _other(user)
    try:
        done = subprocess.run(  # noqa: S603 (a list of words, no shell)
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=timeout_seconds,
            env={**kept, **({"HOME": other.pw_dir} if other else {}), **(environment or {})},
            # The other user may not enter the folder this one is in, and gets none of its groups.
            cwd="/" if other else None,
            user=other.pw_uid if other else None,
            group=other.pw_gid if other else None,
            extra_groups=[] if other else None,
            umask=0o077 if other else -1,
        )
    except subprocess.TimeoutExpired as error:
        raise GreyError(
            f"{shlex.join(command)}: wanted an answer within {timeout_seconds:g} s, found none; "
            f"it had printed: {_text(error.stderr or error.stdout).strip()[-2000:] or 'nothing'}"
        ) from None
    except OSError as error:
        if other and error.errno == errno.EPERM:
            raise GreyError(
                f"{shlex.join(command)}: wanted to run it as {user}, found a connecting user who may not: "
                "connect as root, or set ansible_become"
            ) from error
        raise GreyError(
            f"{command[0]}: wanted a program that can be started, found: {error.strerror}; "
            "check the path and that the node is installed"
        ) from error
    return Answer(tuple(command), done.returncode, _text(done.stdout), _text(done.stderr))


def user_exists(name: str) -> bool:
    """Whether this host has a user of that name."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _other(user: str) -> pwd.struct_passwd | None:
    """Return a user by name when it is not the present one."""
    if not user:
        return None
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise GreyError(
            f"user: wanted {user} on this host, found no such user; the phase 'prepare' makes it"
        ) from None
    return found if found.pw_uid != os.geteuid() else None


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace")
