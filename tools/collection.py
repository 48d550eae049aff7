# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the collection with the node's wheel in it: ``collection.py [FOLDER]``, FOLDER is dist/ by default.

The same files give the same bytes, whenever they are built. Only what git tracks goes in: whatever else lies
in a used tree may be a key. A new file that would belong to the collection is refused by name, since a
release that lacks it would be as wrong. What ``ansible-galaxy collection build`` alone makes works too; it
carries the node's sources instead of the wheel, and takes whatever galaxy.yml's build_ignore does not name.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from ansible_collections.grey.distributed.plugins.module_utils import _wheel

from console import CACHE, ROOT, Failed, report, run, say, tail, write_atomically
from tree import build_ignore, kept_out, new, tracked
from utf8 import use_utf8

LOG = CACHE / "log" / "collection.log"


def main(arguments: list[str]) -> int:
    """Build it; 0 done, 1 failed, 2 wrong usage."""
    if len(arguments) > 1:
        print("usage: collection.py [FOLDER]", file=sys.stderr)
        return 2
    use_utf8()
    try:
        path = build(Path(arguments[0]) if arguments else ROOT / "dist")
    except Failed as failure:
        report("collection", failure)
        return 1
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    write_atomically(path.with_name(f"{path.name}.sha256"), f"{digest}  {path.name}\n")
    say(f"{path}\nSHA-256 {digest}\nnext: ansible-galaxy collection install {path}")
    return 0


def build(target: Path) -> Path:
    """Build the tarball into a folder and return its path."""
    with tempfile.TemporaryDirectory(prefix="collection-") as folder:
        tree = Path(folder) / "tree"
        lay_out(tree)
        command = [
            f"{sys.prefix}/bin/ansible-galaxy",
            "collection",
            "build",
            str(tree),
            "--output-path",
            folder,
        ]
        code, output = run("building the collection", command, LOG)
        built = sorted(Path(folder).glob("*.tar.gz"))
        if code != 0 or not built:
            raise Failed(f"ansible-galaxy collection build failed:\n{tail(output)}", f"look into {LOG}")
        content = normal(built[0].read_bytes())
        target.mkdir(parents=True, exist_ok=True)
        path = target / built[0].name
        beside = path.with_name(f".{path.name}.part")
        beside.write_bytes(content)
        return beside.replace(path)


def lay_out(tree: Path) -> None:
    """Copy what git tracks, and put the node's wheel beside it."""
    ignored = build_ignore()
    if unknown := [name for name in new() if not kept_out(name, ignored)]:
        raise Failed(
            f"wanted files that git tracks, found new ones: {', '.join(unknown)}",
            "git add what belongs to the collection; move the rest away, or name it in .gitignore",
        )
    for name in tracked():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    name, wheel = _wheel.build(tree / "node")
    (tree / "wheels").mkdir()
    (tree / "wheels" / name).write_bytes(wheel)


def normal(built: bytes) -> bytes:
    """Return a built collection with all taken out that differs between two builds."""
    with tarfile.open(fileobj=io.BytesIO(built), mode="r:gz") as archive:
        members = {member.name: member for member in archive}
        files = {
            name: file.read()
            for name, member in members.items()
            if (file := archive.extractfile(member)) is not None
        }
    listing = json.loads(files["FILES.json"])
    listing["files"].sort(key=lambda entry: entry["name"])
    files["FILES.json"] = as_json(listing)
    manifest = json.loads(files["MANIFEST.json"])
    manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(files["FILES.json"]).hexdigest()
    files["MANIFEST.json"] = as_json(manifest)
    held = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", fileobj=held, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        # A reader wants the manifests first.
        for name in sorted(members, key=lambda name: (name not in ("MANIFEST.json", "FILES.json"), name)):
            member = members[name]
            member.mtime = member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.pax_headers = {}
            member.size = len(files.get(name, b""))
            archive.addfile(member, io.BytesIO(files[name]) if name in files else None)
    return held.getvalue()


def as_json(document: object) -> bytes:
    """Return JSON in the form that ansible-galaxy writes."""
    return json.dumps(document, indent=1).encode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
