# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A YAML file as plain data, with the line of every key.

Values are read as YAML 1.2 says (``yes`` and ``off`` are text). What two readers of YAML could take for
different values is refused: duplicate keys, tags, merge keys, numbers such as 010 or 1e3.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    NodeEvent,
)
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from grey.config.errors import ConfigError, Fault, quoted, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BYTES = 1 << 20
MAX_VALUES = 20_000
MAX_DEPTH = 32

KeyPath = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,14})\.[0-9]{1,15}")
_OTHER_NUMBER = re.compile(
    r"[-+]?([0-9]+|0[xob][0-9a-f_]+|(\.[0-9]+|[0-9]+(\.[0-9]*)?)(e[-+]?[0-9]+)?|\.inf|\.nan)|\.nan",
    re.IGNORECASE,
)
_BEYOND_UNICODE = re.compile(r"\\U(?!000[0-9A-Fa-f]|0010)[0-9A-Fa-f]{8}")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


class Document(msgspec.Struct, frozen=True):
    """The data of a file; ``lines`` has the line (from 1) of every key path. Anchors are expanded."""

    file: str
    data: dict[str, Any]
    lines: dict[KeyPath, int]

    def line(self, path: Sequence[str | int]) -> int:
        """Return the line of a key, or of the nearest key above it that is in the file."""
        path = tuple(path)
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def fault(self, path: Sequence[str | int], message: str, hint: str) -> Fault:
        """Return what is wrong with the value of a key."""
        return Fault(self.file, self.line(path), dotted(path), message, hint)

    def has(self, *path: str | int) -> bool:
        """Whether the file has this key."""
        return path in self.lines


def dotted(path: Sequence[str | int]) -> str:
    """Write a key path the way people do: ``federation.clusters[1].role``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w-]+", part):
            text += f".{part}" if text else part
        else:
            text += f'["{shortened(part)}"]'
    return text


def load(path: str | Path) -> Document:
    """Read a file. Raises ConfigError when it cannot be read or is not one mapping in plain YAML."""
    name = str(path).encode("utf-8", "backslashreplace").decode()
    return parse(name, _read(name, Path(path)))


def parse(name: str, content: bytes) -> Document:
    """Read the content of a file called ``name``. Raises ConfigError."""
    text = _decode(name, content)
    try:
        _screen(name, text)
        root = YAML(typ="safe", pure=True).compose(text)
    except YAMLError as error:
        raise ConfigError([_syntax(name, text, error)]) from None
    except (OverflowError, ValueError):  # chr() refuses an escape such as \UFFFFFFFF
        message = "not valid YAML: an escape names no character"
        beyond = _BEYOND_UNICODE.search(text)
        line = _line_at(text, beyond.start()) if beyond else 0
        raise _refused(name, line, message, "look for \\U in double quotes") from None
    if not isinstance(root, MappingNode):
        line = 1 if root is None else root.start_mark.line + 1
        raise _refused(
            name, line, "expected a mapping of keys", "the file is empty or holds another kind of value"
        )
    reader = _Reader(name)
    data = reader.value(root, (), MAX_DEPTH)
    if reader.faults:
        raise ConfigError(reader.faults)
    return Document(name, data, reader.lines)


def _read(name: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _refused(name, 0, "no such file", "check the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _refused(name, 0, f"cannot be read: {reason}", "check the path and its permissions") from None
    if len(content) > MAX_BYTES:
        raise _refused(name, 0, "the file is larger than 1 MiB", "check the path")
    return content


def _decode(name: str, content: bytes) -> str:
    hint = "save the file as UTF-8"
    for mark, encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            raise _refused(name, 1, f"expected UTF-8, found {encoding}", hint)
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise _refused(name, line, "found a NUL byte", f"{hint}, as text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        found = f"expected UTF-8, found the byte 0x{content[error.start]:02x}"
        raise _refused(name, line, found, hint) from None


def _screen(name: str, text: str) -> None:
    """Refuse, before any tree is built, what has no place in these files."""
    depth = documents = values = 0
    anchors: dict[str, int] = {}
    for event in YAML(typ="safe", pure=True).parse(text):
        line = event.start_mark.line + 1
        documents += isinstance(event, DocumentStartEvent)
        values += isinstance(event, NodeEvent)
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if documents > 1:
            raise _refused(name, line, "expected one document, found another one", "remove the line ---")
        if depth > MAX_DEPTH:
            raise _too_deep(name, line)
        if values > 2 * MAX_VALUES:  # keys count here
            raise _too_many(name, line)
        if getattr(event, "tag", None):
            raise _refused(name, line, "tags are refused", "write the plain value, without the word after !")
        anchor = getattr(event, "anchor", None)
        if anchor is None or isinstance(event, AliasEvent):
            continue
        if anchor in anchors:
            message = f"the anchor {shortened(anchor)} is already in line {anchors[anchor]}"
            raise _refused(name, line, message, "give it another name")
        anchors[anchor] = line


class _Reader:
    """Turns nodes into values and collects lines and faults on the way."""

    def __init__(self, file: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.faults: list[Fault] = []
        self._file = file
        self._values = 0

    def value(self, node: Node, path: KeyPath, levels: int) -> Any:
        self._values += 1
        line = node.start_mark.line + 1
        if self._values > MAX_VALUES:
            raise _too_many(self._file, line)
        if levels < 0:
            raise _too_deep(self._file, line)
        if isinstance(node, MappingNode):
            return self._mapping(node, path, levels)
        if isinstance(node, SequenceNode):
            return [self._item(item, (*path, index), levels) for index, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: KeyPath, levels: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._fault(line, path, "expected a text as key, found a list or a mapping", "write a name")
                continue
            key = self._scalar(key_node, path)
            if not isinstance(key, str):
                self._fault(line, path, f"expected a text as key, found {quoted(key)}", "put it in quotes")
                continue
            here = (*path, key)
            if key == "<<" and key_node.style is None:
                hint = "write the keys out, or use an anchor for a whole value"
                self._fault(line, here, "merge keys are refused", hint)
            elif key in result:
                message = f"the key is already in line {self.lines[here]}"
                self._fault(line, here, message, "keep one of the two")
            else:
                self.lines[here] = line
                result[key] = self.value(value_node, here, levels - 1)
        return result

    def _item(self, node: Node, path: KeyPath, levels: int) -> Any:
        self.lines[path] = node.start_mark.line + 1
        return self.value(node, path, levels - 1)

    def _scalar(self, node: ScalarNode, path: KeyPath) -> str | int | float | bool | None:
        text: str = node.value
        line = node.start_mark.line + 1
        if not text.isprintable():
            message = "the value has line breaks or unprintable characters"
            self._fault(line, path, message, "write it in one line")
            return ""
        if node.style is not None:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text):
            return float(text)
        if _OTHER_NUMBER.fullmatch(text):
            hint = "write a plain decimal number, or quotes around a text"
            self._fault(line, path, f"YAML readers do not agree on the number {shortened(text)}", hint)
        return text

    def _fault(self, line: int, path: KeyPath, message: str, hint: str) -> None:
        self.faults.append(Fault(self._file, line, dotted(path), message, hint))


def _syntax(name: str, text: str, error: YAMLError) -> Fault:
    """Say what is no YAML, at the line that a person has to correct."""
    if isinstance(error, ReaderError):
        message = f"found the control character U+{error.character:04X}"
        return Fault(name, _line_at(text, error.position), "", message, "remove it")
    assert isinstance(error, MarkedYAMLError)
    hint = "correct this line or the one before"
    mark = error.problem_mark or error.context_mark
    begun = error.context_mark or mark
    problem = " ".join(str(error.problem or error).split())
    if error.context == "while scanning a quoted scalar":
        # The scanner complains where the text ends, the quote may be hundreds of lines above.
        mark, problem = begun, "the quote that opens in this line is never closed"
        hint = "close it, or escape it where it belongs to the text"
    elif error.context == "while scanning a simple key":
        mark = begun
    elif error.context in ("while parsing a flow sequence", "while parsing a flow mapping"):
        hint += f", or close the bracket of line {begun.line + 1}" if begun.line < mark.line - 1 else ""
    return Fault(name, mark.line + 1 if mark else 0, "", f"not valid YAML: {problem}", hint)


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _too_deep(name: str, line: int) -> ConfigError:
    message = f"values are nested deeper than {MAX_DEPTH} levels"
    return _refused(name, line, message, "look for an anchor that holds itself, or brackets without end")


def _too_many(name: str, line: int) -> ConfigError:
    message = f"more than {MAX_VALUES} values, with anchors expanded"
    return _refused(name, line, message, "look for anchors within anchors, or for data of something else")


def _refused(name: str, line: int, message: str, hint: str) -> ConfigError:
    return ConfigError([Fault(name, line, "", message, hint)])
