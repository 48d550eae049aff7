# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket

import pytest

from grey.link.names import NamePatterns, PeerNames, peer_names
from grey.link.resolver import NamesResolver
from grey.link.session import peer_url


@pytest.mark.parametrize(
    ("name", "admitted"),
    [
        ("edge-chicago.grey.internal", True),
        ("EDGE-CHICAGO.grey.internal", True),
        ("edge-a.evil.grey.internal", False),
        ("edge-.grey.internal", False),
        ("edge-chicago.grey.internal.evil.com", False),
        ("my-edge-chicago.grey.internal", False),
        ("edge-chicago.greyxinternal", False),
        ("edge-chicago.grey.internal\n", False),
        ("edge-*.grey.internal", False),
        ("aws-east.grey.internal", True),
        ("", False),
    ],
)
def test_patterns_are_anchored_and_a_star_stays_within_its_label(name: str, admitted: bool) -> None:
    patterns = NamePatterns(["aws-east.grey.internal", "edge-*.grey.internal"])
    assert patterns.match(name) is admitted


def test_first_match() -> None:
    patterns = NamePatterns(["*.b"])
    assert patterns.first(["x.a", "y.b", "z.b"]) == "y.b"
    assert patterns.first(["x.a"]) is None
    assert not NamePatterns([]).match("a")


def test_names_of_a_certificate() -> None:
    certificate = {
        "subject": ((("organizationName", "x"),), (("commonName", "aws-east"),)),
        "subjectAltName": (("DNS", "a.b"), ("IP Address", "127.0.0.1"), ("DNS", "c.d")),
    }
    assert peer_names(certificate) == PeerNames(("a.b", "c.d"), "aws-east")
    assert peer_names(None) == PeerNames((), None)
    doubled = {"subject": ((("commonName", "operator"),), (("commonName", "aws-east"),))}
    assert peer_names(doubled).common_name is None


async def test_the_map_comes_before_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = NamesResolver({"Grey.Example.com.": ["127.77.1.1", "::1"]})
    found = await resolver.resolve("grey.example.com", 8080, socket.AF_UNSPEC)
    assert [(each["host"], each["family"], each["port"]) for each in found] == [
        ("127.77.1.1", socket.AF_INET, 8080),
        ("::1", socket.AF_INET6, 8080),
    ]
    only = await resolver.resolve("grey.example.com", 1, socket.AF_INET)
    assert [each["host"] for each in only] == ["127.77.1.1"]
    assert [each["host"] for each in await resolver.resolve("localhost", 1)] == ["127.0.0.1"]
    await resolver.close()


def test_an_address_of_the_map_must_be_one() -> None:
    with pytest.raises(ValueError, match="'nowhere' does not appear to be an IPv4 or IPv6 address"):
        NamesResolver({"a": ["nowhere"]})


def test_urls_are_taken_as_they_are() -> None:
    assert str(peer_url("a.b", 1, "/x%2F..%00?y=%20")) == "https://a.b:1/x%2F..%00?y=%20"
    assert str(peer_url("::1", 1, "/")) == "https://[::1]:1/"
