"""The Merkle tree of RFC 6962 (and RFC 9162) over the hashes of all batches, and proofs in it.

    leaf   SHA-256 of 0x00 and the hash of a batch
    node   SHA-256 of 0x01 and the two below it; of n leaves the left one has the largest power of two below n

A subtree whose leaves are 2^level in number and begin at a multiple of that is complete: it is part of every
later tree as it stands, so it may be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

NOTHING: Final = sha256(b"").digest()
"""The root of no leaves."""
PATH_HASHES_MAX: Final = 64
"""Hashes in a proof: a tree of 2^63 leaves has no longer one."""
Range = tuple[int, int]
"""Leaves, counted from 0: the first of them, and the one behind the last."""


def leaf(content: bytes) -> bytes:
    """Hash a leaf."""
    return sha256(b"\x00" + content).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees that stand beside each other."""
    return sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """Return the largest power of two below `size`, which is at least 2."""
    return 1 << (size - 1).bit_length() - 1


def inclusion(index: int, size: int) -> list[Range]:
    """Return the subtrees that prove leaf `index` in the tree of `size` leaves, from the leaf up."""
    start, end = 0, size
    found = []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((start, middle))
            start = middle
    return found[::-1]


def consistency(old: int, size: int) -> list[Range]:
    """Return the subtrees that prove the tree of `old` leaves to be the beginning of that of `size`."""
    start, end = 0, size
    found = []
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((start, middle))
            start = middle
    return ([(start, end)] if start else []) + found[::-1]


def complete(leaves: Range) -> list[tuple[int, int]]:
    """Return the complete subtrees (level, number among those of its level) of which `joined` makes a range.

    The range is one that a proof is made of, or all leaves.
    """
    start, end = leaves
    found = []
    while start < end:
        level = (end - start).bit_length() - 1
        found.append((level, start >> level))
        start += 1 << level
    return found


def joined(subtrees: Sequence[bytes]) -> bytes:
    """Return the root over complete subtrees that get smaller from left to right."""
    if not subtrees:
        return NOTHING
    root = subtrees[-1]
    for left in reversed(subtrees[:-1]):
        root = node(left, root)
    return root


def paired(hashes: Sequence[bytes]) -> bytes:
    """Return the root of a complete subtree over 2^n that are complete and of one level."""
    while len(hashes) > 1:
        hashes = [node(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]


def root_by_inclusion(start: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root to which a leaf and its path lead (RFC 9162, 2.1.3.2), None when they fit no tree."""
    if not 0 <= index < size or len(path) > PATH_HASHES_MAX:
        return None
    place, last, root = index, size - 1, start
    for step in path:
        if last == 0:
            return None
        if place & 1 or place == last:
            root = node(step, root)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            root = node(root, step)
        place, last = place >> 1, last >> 1
    return root if last == 0 else None


def consistent(old: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]) -> bool:
    """Tell whether `path` proves that one tree is the beginning of another (RFC 9162, 2.1.4.2)."""
    if not 0 < old <= size or len(path) > PATH_HASHES_MAX:
        return False
    if old == size:
        return not path and old_root == root
    steps = list(path)
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        return False
    place, last = old - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first = second = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            first, second = node(step, first), node(step, second)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            second = node(second, step)
        place, last = place >> 1, last >> 1
    return last == 0 and first == old_root and second == root
