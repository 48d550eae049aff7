# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheelhouses for hosts that this machine is not: another Python, another architecture."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
TAGS = re.compile(r"-(?P<pythons>[^-]+)-(?P<abis>[^-]+)-(?P<platforms>[^-]+)\.whl")


def unpack(tar: bytes) -> dict[str, bytes]:
    """Return the files of a tar."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        opened = ((member.name, archive.extractfile(member)) for member in archive)
        return {name: file.read() for name, file in opened if file is not None}


def machines(wheel: bytes) -> Iterator[int]:
    """Return the processor of each library in a wheel, as its ELF head says it."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        for name in archive.namelist():
            head = archive.read(name)[:20]
            if head.startswith(b"\x7fELF"):
                yield int.from_bytes(head[18:20], "little")


@pytest.fixture(scope="module")
def other_python(python_version: str) -> str:
    """A Python that this machine's is not."""
    return "3.13" if python_version != "3.13" else "3.12"


@pytest.fixture(scope="module")
def architecture() -> str:
    """An architecture that this machine's is not."""
    return "aarch64" if os.uname().machine == "x86_64" else "x86_64"


def test_a_bundle_for_another_python_and_architecture(
    install, write_bundle: Callable[..., Path], other_python: str, architecture: str, home: Path
) -> None:
    target = f"{other_python}-{architecture}"
    bundle = write_bundle(
        home / "foreign.tar",
        grey_cache_dir=str(home / "foreign"),  # a fresh one: what is kept would prove nothing
        grey_bundle_pythons=[other_python],
        grey_bundle_architectures=[architecture],
        grey_bundle_etcd=False,
    )
    packed = unpack(bundle.read_bytes())
    entries = json.loads(packed["bundle.json"])["wheelhouses"]
    assert list(entries) == [target]
    house = unpack(packed[entries[target]["file"]])
    wheels = {name.removeprefix("wheels/"): text for name, text in house.items() if name.endswith(".whl")}

    # Each pinned package has one wheel, that such a host can load.
    pinned = re.findall(r"^([a-z0-9.-]+)==", house["requirements.txt"].decode(), re.MULTILINE)
    found = sorted(re.sub(r"[-_.]+", "-", name.split("-")[0]).lower() for name in wheels)
    assert found == sorted(re.sub(r"[-_.]+", "-", name) for name in pinned)
    native = []
    for name, wheel in wheels.items():
        tags = TAGS.search(name)
        assert tags is not None, name
        if tags["platforms"] == "any":
            assert list(machines(wheel)) == [], name
            continue
        native.append(tags["abis"])
        assert all(platform.endswith(f"_{architecture}") for platform in tags["platforms"].split(".")), name
        assert set(machines(wheel)) == {ELF_MACHINES[architecture]}, name
    assert set(native) == {"abi3", "cp" + other_python.replace(".", "")}

    # A controller without a network has that wheelhouse from the bundle, byte by byte.
    user = install("2.19")
    arguments = {
        "collection": str(user.home / ".ansible/collections/ansible_collections/grey/distributed"),
        "cache": str(user.home / "foreign"),
        "bundle": str(bundle),
        "targets": [{"python": other_python, "architecture": architecture}],
    }
    user.run("ansible", "localhost", "-m", "grey.distributed.grey_wheelhouse", "-a", json.dumps(arguments))
    (kept,) = (user.home / "foreign" / "wheelhouses").glob(f"*-{target}.tar")
    assert kept.read_bytes() == packed[entries[target]["file"]]
