# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds or fetches etcd, as the collection does, and writes the binary's absolute path to .cache/etcd/path.

The program that restores etcd's snapshots, which the tests of snapshots need, is kept in
.cache/etcd/restorer when the machine has none.

Settings from the environment:

GREY_ETCD_ARCHIVE  a release archive on this machine, instead of downloading one
GREY_ETCD_MIRROR   where releases lie, instead of the project's two places; several are separated by spaces
GREY_ETCD_SHA256   the SHA-256 of the archive, for another version or architecture than those pinned
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from ansible_collections.grey.distributed.plugins.module_utils import _debian, _etcd
from ansible_collections.grey.distributed.plugins.module_utils._download import Unusable
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

from console import CACHE, Failed, Ticker, exclusive, report, say, seconds, write_atomically

HOME = CACHE / "etcd"
CHOSEN = HOME / "path"


def main() -> int:
    """Choose a binary; 0 when there is one, 2 when the user has to do something first."""
    try:
        with exclusive(HOME / "lock.tool", "fetching etcd"):
            found = choose()
            write_atomically(CHOSEN, f"{found.path}\n")
            restorer = restorer_for(found.path)
    except Failed as failure:
        report("get_etcd", failure)
        return 2
    except KeyboardInterrupt:
        print("\nget_etcd: interrupted; run it again to go on", file=sys.stderr)
        return 130
    say(f"etcd: {found.path} (version {found.version}, {found.source})")
    say(f"etcd: snapshots are restored with {restorer}")
    return 0


def choose() -> _etcd.Program:
    """Return what the collection's own finder chooses."""
    with Ticker("etcd") as ticker:
        finder = _etcd.Finder(
            HOME,
            archive=os.environ.get("GREY_ETCD_ARCHIVE"),
            mirrors=os.environ.get("GREY_ETCD_MIRROR", "").split() or _etcd.MIRRORS,
            sha256=os.environ.get("GREY_ETCD_SHA256"),
            tell=ticker.detail,
        )
        try:
            return finder.choose()
        except GreyError as error:
            advice = [
                "one of these, then run this again:",
                "- as root: apt-get install etcd-server",
                f"- get {finder.archive_name} on another machine, copy it here and set",
                "  GREY_ETCD_ARCHIVE=/path/to/it",
                "- set GREY_ETCD_MIRROR=URL to where releases are mirrored, or https_proxy to a proxy",
            ]
            raise Failed(str(error), "\n".join(advice)) from error


def restorer_for(etcd: Path) -> str:
    """Return what restores snapshots: a program beside etcd, in PATH, or kept; else why there is none."""
    kept = HOME / "restorer"
    folders = os.pathsep.join([str(etcd.parent), os.environ.get("PATH", os.defpath), str(kept)])
    for name in ("etcdutl", "etcdctl"):
        if found := shutil.which(name, path=folders):
            return found
    try:
        return str(fetch_restorer(kept))
    except Unusable as reason:
        return f"nothing here, so their tests fail (as root: apt-get install etcd-client): {reason}"


def fetch_restorer(folder: Path) -> Path:
    """Keep the etcdctl of the distribution's package in a folder; return where it is."""
    names = ("etcd-client", "etcd")
    with Ticker("etcdctl") as ticker, _debian.package(names, HOME / "apt", ticker.detail) as package:
        inside = package.tree / "usr" / "bin" / "etcdctl"
        if not inside.is_file():
            raise Unusable(f"{package.name} does not hold /usr/bin/etcdctl")
        folder.mkdir(parents=True, exist_ok=True)
        return inside.rename(folder / "etcdctl")


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    if code == 0 and time.monotonic() - started > 1:
        say(f"etcd: {seconds(started)}")
    sys.exit(code)
