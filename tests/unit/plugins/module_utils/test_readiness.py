# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _readiness
from ansible_collections.grey.distributed.plugins.module_utils._readiness import await_ready


@contextmanager
def answering(*answers: tuple[int, str]) -> Iterator[str]:
    """Give one answer after the other, the last one again."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, words = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(words.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/ready"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_readiness, "_POLL_SECONDS", 0.0)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")


def test_it_waits_until_the_program_says_that_it_is_ready() -> None:
    with answering((503, "starting"), (503, "starting"), (200, "")) as url:
        assert await_ready(url, 60, lambda: 7) is None


def test_what_it_said_last_is_told() -> None:
    with answering((503, '{"problem": "a full copy is under way"}')) as url:
        found = await_ready(url, 0, lambda: 7)
    assert found == f'it was not ready after 0 s ({url}: 503 {{"problem": "a full copy is under way"}})'
    refused = f"it was not ready after 0 s ({url}: [Errno 111] Connection refused)"
    assert await_ready(url, 0, lambda: 7) == refused


def test_a_program_that_ends_again_and_again_is_given_up() -> None:
    pids = itertools.chain.from_iterable((number, number, 0) for number in itertools.count(7))
    with answering((503, "")) as url:
        assert await_ready(url, 60, lambda: next(pids)) == "it ended 3 times before it was ready"
