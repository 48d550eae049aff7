# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grey.record import Envelope, Position, RequestRef, Stamp
from grey.record.envelope import decode, encode, is_deletion

numbers = st.integers(0, 2**63 - 1)
envelopes = st.builds(
    Envelope,
    key=st.binary(max_size=50),
    value=st.one_of(st.none(), st.binary(max_size=50)),
    position=st.builds(Position, numbers, numbers),
    stamp=st.builds(Stamp, numbers, numbers),
    origin=st.text(max_size=20),
    request=st.one_of(
        st.none(), st.builds(RequestRef, st.text(max_size=64), numbers, numbers, st.binary(max_size=16))
    ),
    expires=st.one_of(st.none(), numbers),
)

EXAMPLE = Envelope(b"k", b"v", Position(2, 7), Stamp(1000, 3), "aws-east", RequestRef("id", 0, 1, b"d"), 5000)


@given(envelopes)
def test_stored_form_and_back(envelope: Envelope) -> None:
    found = decode(encode(envelope))
    assert found == envelope
    assert found.deleted == (envelope.value is None)


def test_the_stored_form_is_a_contract() -> None:
    """Stores on disk hold this form: whoever changes it breaks them."""
    stored = msgspec.msgpack.encode([b"k", b"v", [2, 7], [1000, 3], "aws-east", ["id", 0, 1, b"d"], 5000])
    assert encode(EXAMPLE) == stored


def test_an_older_form_without_the_last_fields_is_read() -> None:
    found = decode(msgspec.msgpack.encode([b"k", None, [2, 7], [1000, 3], "a"]))
    assert (found.request, found.expires) == (None, None)


def test_what_a_newer_form_appends_is_ignored() -> None:
    fields = msgspec.msgpack.decode(encode(EXAMPLE))
    assert decode(msgspec.msgpack.encode([*fields, {"later": 1}])) == EXAMPLE


@pytest.mark.parametrize("damaged", [b"", b"\xc1", encode(EXAMPLE)[:-1], b"\x90", msgspec.msgpack.encode({})])
def test_damage_is_refused(damaged: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(damaged)


@given(envelopes)
def test_a_deletion_is_seen_without_reading_the_rest(envelope: Envelope) -> None:
    assert is_deletion(encode(envelope)) == envelope.deleted


@pytest.mark.parametrize("length", [0, 1, 255, 256, 1024, 65_535])
@pytest.mark.parametrize("value", [None, b"", b"\xc0"])
def test_a_deletion_is_seen_behind_keys_of_any_length(length: int, value: bytes | None) -> None:
    envelope = Envelope(b"\xc0" * length, value, Position(1, 1), Stamp(1, 0), "a")
    assert is_deletion(encode(envelope)) == (value is None)


@given(st.binary(max_size=12))
def test_damage_is_no_deletion_or_one_in_form(data: bytes) -> None:
    assert is_deletion(data) in {True, False}
