# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grey.client import BadRequest
from grey.client.keys import from_text, segment, to_text
from grey.client.requests import key_bytes
from grey.serve.http import key_from_text, key_text, percent_decode

any_key = st.binary(min_size=1, max_size=1024)


@given(any_key)
def test_every_key_survives_both_forms_as_the_server_reads_them(key: bytes) -> None:
    assert percent_decode(segment(key), "the key") == key
    assert "/" not in segment(key)
    assert segment(key) not in {".", ".."}
    assert to_text(key) == key_text(key)
    assert from_text(to_text(key)) == key == key_from_text(to_text(key))


@given(st.text(max_size=20))
def test_text_is_a_key_only_in_its_one_form(text: str) -> None:
    try:
        key = from_text(text)
    except ValueError:
        return
    assert to_text(key) == text


@pytest.mark.parametrize("text", ["a%2fb", "a b", "%", "%4", "%41", "ключ", "a\n"])
def test_other_forms_of_a_key_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a key in percent-encoded text"):
        from_text(text)


@pytest.mark.parametrize(
    ("key", "written"),
    [
        (b"user:123", "user%3A123"),
        (b"a/b", "a%2Fb"),
        (b".", "%2E"),
        (b"..", "%2E%2E"),
        (b"a..b", "a..b"),
        (b"...", "..."),
        (b"\x00\xff%", "%00%FF%25"),
    ],
)
def test_segments(key: bytes, written: str) -> None:
    assert segment(key) == written


def test_text_is_utf8() -> None:
    assert key_bytes("ключ") == "ключ".encode()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "a key has 1 to 1024 bytes, this one has 0"),
        ("ж" * 513, "a key has 1 to 1024 bytes, this one has 1026"),
        (b"x" * 1025, "a key has 1 to 1024 bytes, this one has 1025"),
        (
            "a\ud800",
            "a key given as text must be valid Unicode, this one is not at character 1; give it as bytes",
        ),
    ],
)
def test_keys_that_cannot_be(key: str | bytes, message: str) -> None:
    with pytest.raises(BadRequest) as error:
        key_bytes(key)
    assert str(error.value) == message
