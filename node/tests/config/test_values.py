# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501, ISC004 - messages stand in one piece, so that they can be searched for

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grey.config import schema, values
from grey.config.errors import BadValue
from grey.config.model import Endpoint
from grey.config.rules import group

if TYPE_CHECKING:
    from collections.abc import Callable

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
READERS: list[Callable[[str], object]] = [
    values.address,
    values.domain,
    values.endpoint,
    values.host,
    values.label,
    values.name_pattern,
    values.node_name,
    values.path,
]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("federation.grey.internal:8443", "federation.grey.internal", 8443),
        ("Grey-East.Example.com:1", "grey-east.example.com", 1),
        ("127.77.1.1:65535", "127.77.1.1", 65535),
        ("[2001:DB8::1]:8080", "2001:db8::1", 8080),
        ("localhost:8080", "localhost", 8080),
    ],
)
def test_endpoints(text: str, host: str, port: int) -> None:
    assert values.endpoint(text) == Endpoint(host, port)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "http://a.example.com:8080/x",
            'plain http is refused: traffic between clusters is always mTLS; write "a.example.com:8080" without http://',
        ),
        (
            "HTTP://a:1",
            'plain http is refused: traffic between clusters is always mTLS; write "a:1" without http://',
        ),
        ("https://a:1", 'expected HOST:PORT, found "https://a:1"; write "a:1" without https://'),
        ("a.example.com", 'expected HOST:PORT, found "a.example.com"; add the port, for example host:8080'),
        (
            "::1:80",
            'expected HOST:PORT, found "::1:80"; put an IPv6 address in brackets, for example [2001:db8::1]:8080',
        ),
        ("a:", 'expected a port from 1 to 65535, found ""; write HOST:PORT'),
        ("a:0", 'expected a port from 1 to 65535, found "0"; write HOST:PORT'),
        ("a:65536", 'expected a port from 1 to 65535, found "65536"; write HOST:PORT'),
        ("a:80 ", 'expected a port from 1 to 65535, found "80 "; write HOST:PORT'),
        (
            ":80",
            'expected HOST:PORT, found ":80"; a host is a DNS name of a-z, 0-9, - and dots, or an IP address',
        ),
        (
            "a_b:80",
            'expected HOST:PORT, found "a_b:80"; a host is a DNS name of a-z, 0-9, - and dots, or an IP address',
        ),
        (
            "u@h:80",
            'expected HOST:PORT, found "u@h:80"; a host is a DNS name of a-z, 0-9, - and dots, or an IP address',
        ),
        ("10.0.0.256:80", 'expected HOST:PORT, found "10.0.0.256:80"; "10.0.0.256" is not an IPv4 address'),
        ("[10.0.0.1]:80", 'expected HOST:PORT, found "[10.0.0.1]:80"; "10.0.0.1" is not an IPv6 address'),
        (
            "[fe80::1%eth0]:80",
            'expected HOST:PORT, found "[fe80::1%eth0]:80"; "fe80::1%eth0" is not an IPv6 address',
        ),
        *(
            (
                f"{host}:80",
                f'expected HOST:PORT, found "{host}:80"; {host.strip("[]")} is {what}: '
                "write the name or address by which others reach the host",
            )
            for host, what in (
                ("0.0.0.0", "every address of a host and the address of none"),
                ("[::]", "every address of a host and the address of none"),
                ("224.0.0.1", "an address of many hosts"),
                ("[ff02::1]", "an address of many hosts"),
                ("255.255.255.255", "an address of many hosts"),
            )
        ),
    ],
)
def test_wrong_endpoints(text: str, error: str) -> None:
    with pytest.raises(BadValue) as caught:
        values.endpoint(text)
    assert str(caught.value) == error


def test_no_host_in_the_other_protocol_either() -> None:
    with pytest.raises(BadValue, match="every address of a host and the address of none"):
        values.endpoint("[::ffff:0.0.0.0]:80")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("aws_east", "write aws-east"),
        ("AWS East", "write aws-east"),
        ("-", "for example aws-east"),
        ("a" * 64, f"write {'a' * 63}"),
    ],
)
def test_a_wrong_name_comes_with_a_right_one(text: str, hint: str) -> None:
    with pytest.raises(BadValue) as caught:
        values.label(text)
    assert caught.value.hint == hint


@settings(deadline=None)
@given(LABELS, LABELS)
def test_names_have_the_same_group_only_when_they_are_the_same(one: str, other: str) -> None:
    assert (group(values.label(one)) == group(values.label(other))) == (one == other)


@pytest.mark.parametrize(
    ("reader", "good", "bad"),
    [
        (values.domain, ["grey.internal", "local"], ["", ".", "a.", "A.b", "a..b", "a_b", "a." * 100]),
        (values.host, ["a", "10.0.0.1", "A.example.com"], ["", "a b", "10.0.0", "a."]),
        (values.address, ["10.0.0.1", "::1"], ["", "a", "10.0.0.1/8", "fe80::1%eth0"]),
        (values.path, ["/a", "/etc/grey/x.pem"], ["", "a", "./a", "/a/../b", "/a/", "/"]),
        (
            values.name_pattern,
            ["CN=a.b", "*.grey.internal", "edge-*.a"],
            ["", "CN=", "a b", "CN=CN=a", "a..b", "a?"],
        ),
        (values.node_name, ["aws-east-1", "h.example.com", "a_b"], ["", "-a", "a/b", "a b", "é"]),
    ],
)
def test_other_forms(reader: Callable[[str], object], good: list[str], bad: list[str]) -> None:
    for text in good:
        reader(text)
    for text in bad:
        with pytest.raises(BadValue):
            reader(text)


@settings(deadline=None)
@given(st.sampled_from(READERS), st.text(max_size=30) | st.text("aA0.-_:/[]*=CN%", max_size=20))
def test_a_reader_refuses_only_with_bad_value(reader: Callable[[str], object], text: str) -> None:
    try:
        reader(text)
    except BadValue as error:
        assert error.message


@settings(deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", ["schema.json", "node_schema.json", "ctl_schema.json"])
def test_what_a_reader_takes_the_pattern_for_editors_takes_too(name: str, data: st.DataObject) -> None:
    definitions = [part for part in schema.schema(name)["$defs"].values() if "pattern" in part]
    part = data.draw(st.sampled_from(definitions))
    text = data.draw(st.text("aA0.-_:/[]*=CN%ms", max_size=12))
    try:
        schema.FORMATS[part["format"]](text)
    except BadValue:
        return
    assert re.search(part["pattern"], text)


def test_paths_that_no_file_system_takes() -> None:
    assert values.path(f"/a/{'é' * 120}") == f"/a/{'é' * 120}"
    assert values.path("/a" * 512) == "/a" * 512
    with pytest.raises(BadValue, match="expected at most 240 bytes between two /, found 242: "):
        values.path(f"/a/{'é' * 121}/b")
    with pytest.raises(BadValue, match="expected a path of at most 1024 bytes, found 1026; choose a shorter"):
        values.path("/a" * 513)
