# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501, ISC004 - messages stand in one piece, so that they can be searched for

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from grey.config import yamlfile
from grey.config.errors import ConfigError


def read(text: str) -> dict[str, Any]:
    return yamlfile.parse("f.yaml", text.encode()).data


def faults(content: bytes | str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        yamlfile.parse("f.yaml", content.encode() if isinstance(content, str) else content)
    return [str(fault) for fault in caught.value.faults]


def test_values_are_those_of_yaml_1_2() -> None:
    text = (
        "{a: yes, b: off, c: true, d: FALSE, e: ~, f: , g: 12, h: -1, i: 2.50, j: 10.0.0.1, k: 127.0.0.1:80}"
    )
    assert read(text) == {
        "a": "yes",
        "b": "off",
        "c": True,
        "d": False,
        "e": None,
        "f": None,
        "g": 12,
        "h": -1,
        "i": 2.5,
        "j": "10.0.0.1",
        "k": "127.0.0.1:80",
    }


def test_quoted_values_are_text() -> None:
    assert read("{a: 'true', b: \"12\", c: '', d: '010', e: \"\\u00e9\"}") == {
        "a": "true",
        "b": "12",
        "c": "",
        "d": "010",
        "e": "é",
    }


def test_lines_of_keys_and_items() -> None:
    document = yamlfile.parse("f.yaml", b"a:\n  b:\n    - c: 1\n    -\n      c: 2\n  d.e: 3\n")
    assert document.line(("a", "b", 0, "c")) == 3
    assert document.line(("a", "b", 1)) == 5
    assert document.line(("a", "b", 1, "c")) == 5
    assert document.line(("a", "b", 7, "x")) == 2
    assert document.line(()) == 1
    assert document.fault(("a", "d.e"), "m", "h") == document.fault(("a", "d.e"), "m", "h")
    assert str(document.fault(("a", "d.e"), "m", "h")) == 'f.yaml:6: a["d.e"]: m; h'
    assert str(document.fault(("a", "b", 1, "c"), "m", "")) == "f.yaml:5: a.b[1].c: m"


def test_anchors_for_whole_values() -> None:
    document = yamlfile.parse("f.yaml", b"a: &tls {cert: x}\nb:\n  c: *tls\nd: [*tls, *tls]\n")
    assert document.data == {"a": {"cert": "x"}, "b": {"c": {"cert": "x"}}, "d": [{"cert": "x"}] * 2}
    assert document.line(("b", "c")) == 3
    assert document.line(("b", "c", "cert")) == 1


def test_a_byte_order_mark_of_utf_8_is_fine() -> None:
    assert yamlfile.parse("f", b"\xef\xbb\xbfa: 1").data == {"a": 1}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "a: 1\nb:\n  c: 2\n  d: 3\n  c: 4\n",
            ["f.yaml:5: b.c: the key is already in line 3; keep one of the two"],
        ),
        ("{'a': 1, a: 2}", ["f.yaml:1: a: the key is already in line 1; keep one of the two"]),
        (
            "a: {b: 1}\nc:\n  <<: {b: 2}",
            [
                'f.yaml:3: c["<<"]: merge keys are refused; write the keys out, or use an anchor for a whole value'
            ],
        ),
        (
            "a: 010",
            [
                "f.yaml:1: a: YAML readers do not agree on the number 010; write a plain decimal number, or quotes around a text"
            ],
        ),
        ("12: 1", ["f.yaml:1: expected a text as key, found the number 12; put it in quotes"]),
        (
            "a:\n  ? [x]\n  : 1",
            ["f.yaml:2: a: expected a text as key, found a list or a mapping; write a name"],
        ),
        (
            "a: |\n  x\n  y\n",
            ["f.yaml:1: a: the value has line breaks or unprintable characters; write it in one line"],
        ),
        (
            'a: "\\ud800"',
            ["f.yaml:1: a: the value has line breaks or unprintable characters; write it in one line"],
        ),
        (
            "a: 1\nb: !!python/object/apply:os.system [x]",
            ["f.yaml:2: tags are refused; write the plain value, without the word after !"],
        ),
        ("a: !!str 1", ["f.yaml:1: tags are refused; write the plain value, without the word after !"]),
        ("a: ! 1", ["f.yaml:1: tags are refused; write the plain value, without the word after !"]),
        ("a: 1\n---\nb: 1", ["f.yaml:2: expected one document, found another one; remove the line ---"]),
        ("a: &x 1\nb: &x 2", ["f.yaml:2: the anchor x is already in line 1; give it another name"]),
        (
            "a: *x",
            ["f.yaml:1: not valid YAML: found undefined alias 'x'; correct this line or the one before"],
        ),
        (
            "a: 1\nb: [1",
            [
                "f.yaml:2: not valid YAML: expected ',' or ']', but got '<stream end>'; correct this line or the one before"
            ],
        ),
        ("a: 1\n\tb: 1", None),
        (
            'a: "\\UFFFFFFFF"',
            ["f.yaml:1: not valid YAML: an escape names no character; look for \\U in double quotes"],
        ),
        (
            'a: "\\U0010FFFD"\nb: "\\U00110000"',
            ["f.yaml:2: not valid YAML: an escape names no character; look for \\U in double quotes"],
        ),
        ("a: \x01", ["f.yaml:1: found the control character U+0001; remove it"]),
        ("# é\n\na: 1\nb: \x1b[0m\n", ["f.yaml:4: found the control character U+001B; remove it"]),
        (
            'a: 1\nb: "x\nc: 2\n\nd: 3\n',
            [
                "f.yaml:2: not valid YAML: the quote that opens in this line is never closed; close it, or escape it where it belongs to the text"
            ],
        ),
        (
            "a: 'x\nb: 2\n---\nc: 3\n",
            [
                "f.yaml:1: not valid YAML: the quote that opens in this line is never closed; close it, or escape it where it belongs to the text"
            ],
        ),
        (
            "a: 1\nb\nc: 2\n",
            ["f.yaml:2: not valid YAML: could not find expected ':'; correct this line or the one before"],
        ),
        (
            "a: [1,\n2,\n3,\n4\n",
            [
                "f.yaml:5: not valid YAML: expected ',' or ']', but got '<stream end>'; correct this line or the one before, or close the bracket of line 1"
            ],
        ),
        ("", ["f.yaml:1: expected a mapping of keys; the file is empty or holds another kind of value"]),
        (
            "# only a comment\n",
            ["f.yaml:1: expected a mapping of keys; the file is empty or holds another kind of value"],
        ),
        (
            "\n- a\n",
            ["f.yaml:2: expected a mapping of keys; the file is empty or holds another kind of value"],
        ),
        (
            "just text",
            ["f.yaml:1: expected a mapping of keys; the file is empty or holds another kind of value"],
        ),
        ("a: 1\n".encode("utf-16"), ["f.yaml:1: expected UTF-8, found UTF-16; save the file as UTF-8"]),
        ("a: 1\n".encode("utf-32"), ["f.yaml:1: expected UTF-8, found UTF-32; save the file as UTF-8"]),
        ("a: 1\n".encode("utf-16-le"), ["f.yaml:1: found a NUL byte; save the file as UTF-8, as text"]),
        (b"a: 1\nb: \0", ["f.yaml:2: found a NUL byte; save the file as UTF-8, as text"]),
        (
            "a: 1\n# é".encode("latin-1"),
            ["f.yaml:2: expected UTF-8, found the byte 0xe9; save the file as UTF-8"],
        ),
    ],
)
def test_refused(content: bytes | str, expected: list[str] | None) -> None:
    found = faults(content)
    assert found == expected if expected else found[0].startswith("f.yaml:2: not valid YAML: ")


@pytest.mark.parametrize(
    "number", ["0x1F", "0o17", "00", "1e3", "1.", ".5", ".inf", "-.INF", ".nan", "1" * 19, "-01", "+1.5e-3"]
)
def test_numbers_that_readers_read_differently(number: str) -> None:
    assert faults(f"a: {number}") == [
        f"f.yaml:1: a: YAML readers do not agree on the number {number}; "
        "write a plain decimal number, or quotes around a text"
    ]


def test_all_faults_of_a_file_are_reported() -> None:
    assert [fault.split(":")[1] for fault in faults("a: 010\nb: 1\nb: 2\nc:\n  <<: 1\n")] == ["1", "3", "5"]


BOMB = "a0: &a0 [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20)
)
CHAIN = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 1000))


def test_alias_bomb() -> None:
    [fault] = faults(BOMB)
    assert fault.endswith(
        "more than 20000 values, with anchors expanded; look for anchors within anchors, or for data of something else"
    )


@pytest.mark.parametrize(
    "content", ["a: &a [*a, *a]", "a: &a {b: *a}", CHAIN, "[" * 100_000, "{a: " * 100_000, "- " * 100_000]
)
def test_values_too_deep(content: str) -> None:
    [fault] = faults(content)
    assert fault.endswith(
        "values are nested deeper than 32 levels; look for an anchor that holds itself, or brackets without end"
    )


def test_too_many_plain_values() -> None:
    [fault] = faults("a: [" + "1," * 100_000 + "]")
    assert "more than 20000 values" in fault


def file_fault(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        yamlfile.load(path)
    [fault] = caught.value.faults
    return str(fault)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert file_fault(tmp_path / "no") == f"{tmp_path}/no: no such file; check the path"
    assert (
        file_fault(tmp_path)
        == f"{tmp_path}: cannot be read: Is a directory; check the path and its permissions"
    )
    assert "cannot be read: embedded null byte" in file_fault(Path("a\0b"))
    big = tmp_path / "big"
    big.write_bytes(b"#" * (1 << 20) + b"\n")
    assert file_fault(big) == f"{big}: the file is larger than 1 MiB; check the path"
    endless = Path("/dev/zero")
    assert file_fault(endless) == "/dev/zero: the file is larger than 1 MiB; check the path"


def test_a_file_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a: 1\n#".ljust(1 << 20, b"x"))
    assert yamlfile.load(path).data == {"a": 1}


def test_a_file_name_of_any_bytes(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.yaml")
    assert file_fault(Path(path)) == f"{tmp_path}/\\udcff.yaml: no such file; check the path"
