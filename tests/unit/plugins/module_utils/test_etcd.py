# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every source of etcd, with the one before it missing or broken."""

from __future__ import annotations

import hashlib
import http.server
import io
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _download, _etcd
from ansible_collections.grey.distributed.plugins.module_utils._bundle import Bundle, Part, index_of, write
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

NAME = f"etcd-v{_etcd.VERSION}-linux-{_etcd.own_architecture()}.tar.gz"
SYSTEM = ":".join(
    folder for folder in ("/usr/bin", "/bin") if Path(folder).is_dir()
)  # for the fakes' own #!/bin/sh commands


def script(path: Path, text: str) -> Path:
    """Write a shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def fake_etcd(path: Path, version: str) -> Path:
    return script(path, f"echo 'etcd Version: {version}'; echo 'Git SHA: 0'")


def archive(path: Path, version: str = "3.5.21") -> tuple[Path, str]:
    body = f"#!/bin/sh\necho 'etcd Version: {version}'\n".encode()
    with tarfile.open(path, "w:gz") as tar:
        for name in ("etcd-v3.5.21-linux-amd64/README.md", "etcd-v3.5.21-linux-amd64/etcd"):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a PATH without etcd, apt-get or dpkg-deb."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    return tmp_path / "home"


def finder(home: Path, *mirrors: str, archive: Path | None = None, sha256: str | None = None) -> _etcd.Finder:
    """A finder for this machine, with mirrors on loopback."""
    return _etcd.Finder(
        home,
        mirrors=mirrors or ("http://127.0.0.1:1",),
        archive=str(archive) if archive else None,
        sha256=sha256,
    )


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A mirror on loopback: its address, and the folder of the release."""
    folder = tmp_path / "mirror" / f"v{_etcd.VERSION}"
    folder.mkdir(parents=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "mirror"), **options)  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


def test_path_is_preferred_and_an_old_or_broken_etcd_is_passed_over(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_etcd(tmp_path / "old" / "etcd", "3.3.25")
    script(tmp_path / "broken" / "etcd", "echo no such luck >&2; exit 3")
    good = fake_etcd(tmp_path / "good" / "etcd", "3.4.0")
    # Looking into a folder with so long a name is an error, as it is into one that is closed to this user.
    folders = ("n" * 300, "old", "broken", "good")
    monkeypatch.setenv("PATH", ":".join(str(tmp_path / name) for name in folders))
    assert finder(home).choose() == _etcd.Program(good, "3.4.0", "found in PATH")
    assert finder(home).look(["path"]) == _etcd.Program(good, "3.4.0", "found in PATH")
    assert finder(home).look(["kept"]) is None


def test_nothing_works_and_every_reason_is_named(home: Path, tmp_path: Path) -> None:
    fake_etcd(tmp_path / "bin" / "etcd", "3.3.25")
    heard: list[str] = []
    wanted = finder(home)
    wanted.tell = heard.append
    with pytest.raises(GreyError) as caught:
        wanted.choose()
    words = str(caught.value)
    assert "is version 3.3.25, wanted 3.4 or newer" in words
    assert "127.0.0.1:1" in words and "Connection refused" in words
    assert "apt-get is not here" in words
    assert len(caught.value.details["reasons"]) == 3
    assert any(line.startswith("fetching http://127.0.0.1:1/") for line in heard)
    assert "-e grey_etcd_archive=PATH" in _etcd.advice("amd64")


def test_a_release_is_downloaded_checked_and_found_again_without_a_network(
    home: Path, mirror: tuple[str, Path]
) -> None:
    url, folder = mirror
    digest = archive(folder / NAME)[1]
    found = finder(home, "http://127.0.0.1:1", f"{url}/", sha256=digest).choose()
    assert found.path == home / "release-archive" / "etcd" and found.is_new
    assert url in found.source and "SHA-256 checked" in found.source
    assert not list(home.rglob("*.part"))
    again = _etcd.Program(found.path, "3.5.21", "fetched earlier from a release-archive")
    assert finder(home).choose() == again


def test_an_archive_with_another_digest_is_never_used(home: Path, mirror: tuple[str, Path]) -> None:
    url, folder = mirror
    archive(folder / NAME)
    with pytest.raises(GreyError, match=r"wanted SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}; not used"):
        finder(home, url).choose()
    assert not list(home.rglob("etcd")) and not list(home.rglob("*.part"))


def test_half_a_download_is_never_used(home: Path, tmp_path: Path) -> None:
    path, digest = archive(tmp_path / NAME)
    body = path.read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_half() -> None:
            connection = server.accept()[0]
            with connection:
                connection.recv(65536)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                connection.sendall(head + body[: len(body) // 2])

        threading.Thread(target=answer_half, daemon=True).start()
        with pytest.raises(GreyError):
            finder(home, f"http://127.0.0.1:{server.getsockname()[1]}", sha256=digest).choose()
    assert not list(home.rglob("etcd")) and not list(home.rglob("*.part"))


def test_a_mirror_that_never_answers_costs_a_bounded_time(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_download, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        with pytest.raises(GreyError, match=r"no connection within|timed out"):
            finder(home, f"http://127.0.0.1:{server.getsockname()[1]}").choose()
        assert time.monotonic() - started < 20


def test_a_local_archive_is_taken_and_a_wrong_one_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(GreyError, match=r"missing\.tar\.gz: No such file"):
        finder(home, archive=tmp_path / "missing.tar.gz").choose()
    path, digest = archive(tmp_path / "mine.tar.gz")
    assert finder(home, archive=path, sha256=digest).choose().path == home / "release-archive" / "etcd"
    assert path.exists()


def test_a_kept_binary_that_no_longer_runs_is_thrown_away(home: Path) -> None:
    script(home / "package" / "etcd", "exit 1")
    with pytest.raises(GreyError):
        finder(home).choose()
    assert not (home / "package").exists()


def test_a_bundle_gives_what_was_packed_for_each_architecture(home: Path, tmp_path: Path) -> None:
    program = fake_etcd(tmp_path / "etcd", "3.5.9")
    packed = _etcd.pack(program, tmp_path / "etcd.tar.gz")
    assert packed.read_bytes() == _etcd.pack(program, tmp_path / "again.tar.gz").read_bytes()
    own = _etcd.own_architecture()
    other = "arm64" if own == "amd64" else "amd64"
    parts = {"wheelhouses": {}, "etcd": {name: Part(f"etcd/{name}.tar.gz", packed) for name in (own, other)}}
    write(tmp_path / "bundle.tar", index_of("0.2.0", "0.2.0-1", parts), parts)
    bundle = Bundle(str(tmp_path / "bundle.tar"))
    found = _etcd.Finder(home / own, own, bundle=bundle).choose(["kept", "bundle"])
    assert (found.version, found.source) == ("3.5.9", f"from the bundle {tmp_path / 'bundle.tar'}")
    # What is for another machine is taken by its digest alone: it cannot be run here.
    assert _etcd.Finder(home / other, other, bundle=bundle).choose(["kept", "bundle"]).version == ""
    with pytest.raises(GreyError, match="wanted etcd for the architecture s390x, found amd64, arm64"):
        _etcd.Finder(home / "s390x", "s390x", bundle=bundle).choose(["kept", "bundle"])


def apt(folder: Path, version: str) -> None:
    """An apt-get that has no lists until it has updated into private ones, and a dpkg-deb."""
    script(
        folder / "apt-get",
        f"""PATH={SYSTEM}
lists=; for word in "$@"; do
  case "$word" in Dir::State::Lists=*) lists="${{word#*=}}";; esac
  last="$word"
done
case "$*" in
  *" update") touch "$lists/fetched"; exit 100;;
  *" download etcd-server")
    [ -n "$lists" ] && [ -e "$lists/fetched" ] || {{ echo "E: Unable to locate package $last"; exit 100; }}
    echo package > etcd-server_{version}_all.deb;;
  *) echo "E: Unable to locate package $last"; exit 100;;
esac""",
    )
    script(
        folder / "dpkg-deb",
        f"""PATH={SYSTEM}
mkdir -p "$3/usr/bin"
printf '#!/bin/sh\\necho etcd Version: {version}\\n' > "$3/usr/bin/etcd"
chmod 755 "$3/usr/bin/etcd" """,
    )


def test_the_package_is_fetched_with_private_lists_when_the_system_has_none(
    home: Path, tmp_path: Path
) -> None:
    apt(tmp_path / "bin", "3.4.23")
    found = finder(home).choose()
    assert found.path == home / "package" / "etcd"
    assert found.version == "3.4.23"
    assert found.source == "from the distribution's package etcd-server_3.4.23_all.deb"
    assert not (home / "apt").exists()


def test_a_package_that_is_too_old_is_refused(home: Path, tmp_path: Path) -> None:
    apt(tmp_path / "bin", "3.3.25")
    with pytest.raises(GreyError, match=r"is version 3\.3\.25, wanted 3\.4 or newer"):
        finder(home).choose()
    assert not list(home.rglob("etcd"))


def test_the_pinned_digests_are_whole() -> None:
    assert set(_etcd.SHA256) == {"amd64", "arm64"}
    assert all(len(bytes.fromhex(digest)) == 32 for digest in _etcd.SHA256.values())
    assert tuple(map(int, _etcd.VERSION.split("."))) >= _etcd.OLDEST
