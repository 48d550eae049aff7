# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives Ansible a locale that it accepts: it refuses one that the machine lacks, and one that is not UTF-8.

``utf8.py COMMAND [ARGUMENT...]`` runs a command in such a locale.
"""

from __future__ import annotations

import locale
import os
import sys

CANDIDATES = ("C.UTF-8", "en_US.UTF-8")  # the first is in every glibc of today, and with Debian and Red Hat


def use_utf8() -> None:
    """Let what this process starts run in the user's own locale when that works, else in one that does."""
    if usable(""):
        return
    found = next((name for name in CANDIDATES if usable(name)), None)
    if found is not None:  # without any, Ansible says what it wants
        os.environ["LC_ALL"] = found


def usable(name: str) -> bool:
    """Tell whether Ansible would accept this locale (empty: the environment's); it asks the same way."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, name)
        return (locale.getlocale()[1] or "").lower() in ("utf-8", "utf8")
    except (locale.Error, ValueError):
        return False
    finally:
        locale.setlocale(locale.LC_ALL, before)


if __name__ == "__main__":
    use_utf8()
    os.execvp(sys.argv[1], sys.argv[1:])
