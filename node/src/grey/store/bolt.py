# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the file that an etcd keeps its data in, without an etcd: enough to see what a snapshot holds.

Source: the file format of bbolt (``page.go``, ``bucket.go`` and ``db.go``), version 2, in use since etcd 3.0.
Nothing is ever written, and nothing is believed: every number is checked before it is used as a place.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC = 0xED0CDAED
_VERSION = 2
_BRANCH, _LEAF = 0x01, 0x02
_SUB_BUCKET = 0x01
_PAGE = struct.Struct("<QHHI")  # id, flags, count, overflow
_META = struct.Struct(
    "<IIIIQQQQQQ"
)  # magic, version, page size, flags, root, sequence, freelist, pages, txid
_META_PLACE = 16
_CHECKSUM_BYTES = 56
_BRANCH_ELEMENT = struct.Struct("<IIQ")  # place, key's size, page
_LEAF_ELEMENT = struct.Struct("<IIII")  # flags, place, key's size, value's size
_PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)
_DEEPEST = 64


class BoltDamaged(Exception):
    """The file is no whole bbolt file; the message says what was found."""


class BoltFile:
    """The newest state of a bbolt file, which nobody writes meanwhile."""

    def __init__(self, data: memoryview) -> None:
        """Raises BoltDamaged."""
        self._data = data
        metas = [found for size in _PAGE_SIZES for found in self._metas(size)]
        if not metas:
            raise BoltDamaged(f"none of its first two pages describes a bbolt file of version {_VERSION}")
        _, self._size, self._root, self._pages = max(metas)
        if self._pages * self._size > len(data):
            raise BoltDamaged(f"{self._pages} pages of {self._size} bytes are expected, it has {len(data)}")

    def bucket(self, name: bytes) -> Iterator[tuple[bytes, memoryview]]:
        """Give keys and values of a bucket in order; nothing when there is none. Raises BoltDamaged."""
        for flags, key, value in self._entries(self._root, 0):
            if key == name and flags & _SUB_BUCKET:
                root = struct.unpack_from("<Q", value)[0] if len(value) >= 16 else 0
                entries = self._entries(root, 0) if root else self._leaf(value[16:])
                yield from ((bytes(entry[1]), entry[2]) for entry in entries)
                return

    def _metas(self, size: int) -> Iterator[tuple[int, int, int, int]]:
        """Give transaction, page size, root page and number of pages of the valid descriptions."""
        for place in (_META_PLACE, size + _META_PLACE):
            if len(self._data) < place + _META.size:
                continue
            magic, version, found, _, root, _, _, pages, transaction, checksum = _META.unpack_from(
                self._data, place
            )
            whole = checksum in (0, _fnv(self._data[place : place + _CHECKSUM_BYTES]))
            if (magic, version, found) == (_MAGIC, _VERSION, size) and whole:
                yield transaction, size, root, pages

    def _entries(self, number: int, depth: int) -> Iterator[tuple[int, memoryview, memoryview]]:
        """Give flags, key and value of everything below a page."""
        if depth > _DEEPEST:
            raise BoltDamaged("its pages lead in a circle")
        page = self._page(number)
        _, flags, count, _ = _PAGE.unpack_from(page)
        if flags & _LEAF:
            yield from self._leaf(page)
        elif flags & _BRANCH:
            elements = page[_PAGE.size : _PAGE.size + count * _BRANCH_ELEMENT.size]
            for _, _, below in _BRANCH_ELEMENT.iter_unpack(elements):
                yield from self._entries(below, depth + 1)
        else:
            raise BoltDamaged(f"page {number} has the flags {flags:#x}, a branch or a leaf was wanted")

    def _page(self, number: int) -> memoryview:
        place = number * self._size
        if not 2 <= number < self._pages:
            raise BoltDamaged(f"page {number} is wanted, but there are pages 2 to {self._pages - 1} only")
        stated, _, _, overflow = _PAGE.unpack_from(self._data, place)
        if stated != number or number + overflow >= self._pages:
            raise BoltDamaged(f"page {number} says that it is {overflow + 1} pages from {stated} on")
        return self._data[place : place + (overflow + 1) * self._size]

    @staticmethod
    def _leaf(page: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
        _, _, count, _ = _PAGE.unpack_from(page)
        elements = page[_PAGE.size : _PAGE.size + count * _LEAF_ELEMENT.size]
        if len(elements) % _LEAF_ELEMENT.size or len(elements) // _LEAF_ELEMENT.size != count:
            raise BoltDamaged(f"a page has no room for the {count} entries that it says it has")
        start = _PAGE.size
        for flags, place, key_size, value_size in _LEAF_ELEMENT.iter_unpack(elements):
            begin, middle = start + place, start + place + key_size
            if middle + value_size > len(page):
                raise BoltDamaged("an entry ends behind its page")
            yield flags, page[begin:middle], page[middle : middle + value_size]
            start += _LEAF_ELEMENT.size


def _fnv(data: memoryview) -> int:
    """Return the FNV-1a hash of 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value
