"""Compares the subtrees that are kept for receipts with the hashes of batches; RFC 6962 has the tree."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from holdfast.domains.ledger.store.proof import Tables
from holdfast.domains.ledger.verify.report import Report

_LEVELS: Final = 10
_BELOW: Final = 2**_LEVELS


class Subtrees:
    """The tree as far as it was read. Nothing is computed when nothing is kept."""

    def __init__(self, tables: Tables, report: Report) -> None:
        self._report = report
        self._stream = tables.nodes()
        self._next = next(self._stream, None)
        self._waiting: list[list[bytes]] = [[]]
        self._made = [0]

    def follow(self, hashes: Sequence[bytes]) -> None:
        """Take in the hashes of batches, in order."""
        if self._next is None:
            return
        waiting = self._waiting[0]
        for start in range(0, len(hashes), _BELOW):
            waiting += [sha256(b"\x00" + digest).digest() for digest in hashes[start : start + _BELOW]]
            if len(waiting) >= _BELOW:
                self._complete(1, _root(waiting[:_BELOW]))
                del waiting[:_BELOW]

    def _complete(self, height: int, root: bytes) -> None:
        if height == len(self._waiting):
            self._waiting.append([])
            self._made.append(0)
        place, level = self._made[height], height * _LEVELS
        self._made[height] += 1
        if self._next is not None and (self._next[0], self._next[1]) == (level, place):
            if bytes(self._next[2]) != root:
                last = (place + 1) << level
                self._report.find(None, f"the subtree kept over batches up to {last} is not what they give")
            self._next = next(self._stream, None)
        waiting = self._waiting[height]
        waiting.append(root)
        if len(waiting) == _BELOW:
            self._complete(height + 1, _root(waiting))
            waiting.clear()

    def finish(self) -> None:
        """Check that nothing is kept that is not complete yet."""
        if self._next is not None:
            self._report.find(None, "a subtree is kept that no batches fill")


def _root(hashes: Sequence[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [sha256(b"\x01" + hashes[at] + hashes[at + 1]).digest() for at in range(0, len(hashes), 2)]
    return hashes[0]
