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
from fakes import script

import get_etcd
from console import Failed

NAME = f"etcd-v{get_etcd.VERSION}-linux-{get_etcd.architecture()}.tar.gz"
SYSTEM = ":".join(
    folder for folder in ("/usr/bin", "/bin") if Path(folder).is_dir()
)  # for the fakes' own #!/bin/sh commands


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
    """An empty cache, a PATH without etcd, apt-get or dpkg-deb, and no settings."""
    folder = tmp_path / "home"
    monkeypatch.setattr(get_etcd, "HOME", folder)
    monkeypatch.setattr(get_etcd, "CHOSEN", folder / "path")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("GREY_ETCD_MIRROR", "http://127.0.0.1:1")
    for name in ("GREY_ETCD_ARCHIVE", "GREY_ETCD_SHA256", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    folder.mkdir()
    (tmp_path / "bin").mkdir()
    return folder


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A mirror on loopback: its address, and the folder of the release."""
    folder = tmp_path / "mirror" / f"v{get_etcd.VERSION}"
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
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_etcd(tmp_path / "old" / "etcd", "3.3.25")
    script(tmp_path / "broken" / "etcd", "echo no such luck >&2; exit 3")
    good = fake_etcd(tmp_path / "good" / "etcd", "3.4.0")
    monkeypatch.setenv("PATH", ":".join(str(tmp_path / name) for name in ("old", "broken", "good")))
    assert get_etcd.main() == 0
    assert (home / "path").read_text() == f"{good}\n"
    assert "found in PATH" in capsys.readouterr().out


def test_nothing_works_and_every_reason_and_the_next_steps_are_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_etcd(tmp_path / "bin" / "etcd", "3.3.25")
    assert get_etcd.main() == 2
    words = capsys.readouterr().err
    assert "is version 3.3.25, wanted 3.4 or newer" in words
    assert "127.0.0.1:1" in words and "Connection refused" in words
    assert "apt-get is not here" in words
    assert "apt-get install etcd-server" in words and "GREY_ETCD_ARCHIVE" in words
    assert not (home / "path").exists()


def test_a_release_is_downloaded_checked_and_found_again_without_a_network(
    home: Path, mirror: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = mirror
    _, digest = archive(folder / NAME)
    monkeypatch.setenv("GREY_ETCD_MIRROR", f"http://127.0.0.1:1 {url}/")
    monkeypatch.setenv("GREY_ETCD_SHA256", digest)
    binary, source = get_etcd.choose()
    assert binary == home / "release-archive" / "etcd"
    assert url in source and "SHA-256 checked" in source
    assert not list(home.rglob("*.part"))
    monkeypatch.setenv("GREY_ETCD_MIRROR", "http://127.0.0.1:1")
    assert get_etcd.choose() == (binary, "version 3.5.21, fetched earlier from a release-archive")


def test_an_archive_with_another_digest_is_never_used(
    home: Path, mirror: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = mirror
    archive(folder / NAME)
    monkeypatch.setenv("GREY_ETCD_MIRROR", url)
    with pytest.raises(Failed, match=r"wanted SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}; not used"):
        get_etcd.choose()
    assert not list(home.rglob("etcd")) and not list(home.rglob("*.part"))


def test_half_a_download_is_never_used(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, digest = archive(tmp_path / NAME)
    body = path.read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_half() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                connection.sendall(head + body[: len(body) // 2])

        threading.Thread(target=answer_half, daemon=True).start()
        monkeypatch.setenv("GREY_ETCD_MIRROR", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("GREY_ETCD_SHA256", digest)
        with pytest.raises(Failed):
            get_etcd.choose()
    assert not list(home.rglob("etcd")) and not list(home.rglob("*.part"))


def test_a_mirror_that_never_answers_costs_a_bounded_time(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_etcd, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("GREY_ETCD_MIRROR", f"http://127.0.0.1:{server.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(Failed, match=r"no connection within|timed out"):
            get_etcd.choose()
        assert time.monotonic() - started < 5


def test_a_local_archive_is_taken_and_a_wrong_one_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREY_ETCD_ARCHIVE", str(tmp_path / "missing.tar.gz"))
    with pytest.raises(Failed, match=r"missing\.tar\.gz: No such file"):
        get_etcd.choose()
    path, digest = archive(tmp_path / "mine.tar.gz")
    monkeypatch.setenv("GREY_ETCD_ARCHIVE", str(path))
    monkeypatch.setenv("GREY_ETCD_SHA256", digest)
    assert get_etcd.choose()[0] == home / "release-archive" / "etcd"
    assert path.exists()


def test_a_cached_binary_that_no_longer_runs_is_thrown_away(home: Path) -> None:
    script(home / "package" / "etcd", "exit 1")
    with pytest.raises(Failed):
        get_etcd.choose()
    assert not (home / "package").exists()


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
    binary, source = get_etcd.choose()
    assert binary == home / "package" / "etcd"
    assert source == "version 3.4.23, from the distribution's package etcd-server_3.4.23_all.deb"
    assert not (home / "apt").exists()


def test_a_package_that_is_too_old_is_refused(home: Path, tmp_path: Path) -> None:
    apt(tmp_path / "bin", "3.3.25")
    with pytest.raises(Failed, match=r"is version 3\.3\.25, wanted 3\.4 or newer"):
        get_etcd.choose()
    assert not list(home.rglob("etcd"))


def test_the_pinned_digests_are_whole() -> None:
    assert set(get_etcd.SHA256) == {"amd64", "arm64"}
    assert all(len(bytes.fromhex(digest)) == 32 for digest in get_etcd.SHA256.values())
    assert tuple(map(int, get_etcd.VERSION.split("."))) >= get_etcd.OLDEST
