"""Leaves, roots and hashes of batches, recomputed from rows; docs/reference/ledger.md has the format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from holdfast.domains.ledger.store.proof import EXTRA, TRANSFER

Rows = npt.NDArray[Any]
_LEAF_BYTES: Final = TRANSFER.fields["seq"][1] if TRANSFER.fields else 0
_BRANCHES: Final = 16
_NOTHING: Final = sha256(b"").digest()
_OPTIONAL: Final = {
    "balancing": 1, "asked": 2, "held": 3, "pending_id": 4, "expires_at": 5, "over": 7, "settles": 8,
}  # fmt: skip
"""What may be hashed of a transfer besides, in this order, and the byte that stands before each."""
METADATA: Final = 1 << len(_OPTIONAL)
"""The bit of `has` that tells of metadata."""
_sorted_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode


def leaves(rows: Rows, extensions: dict[int, bytes]) -> list[bytes]:
    """Hash transfers. `extensions`: what only some of them have, by position."""
    whole, step = rows.tobytes(), TRANSFER.itemsize
    if not extensions:
        return [sha256(whole[at : at + _LEAF_BYTES]).digest() for at in range(0, len(whole), step)]
    contents = [whole[at : at + _LEAF_BYTES] for at in range(0, len(whole), step)]
    for position, extension in extensions.items():
        contents[position] += extension
    return [sha256(content).digest() for content in contents]


def extensions(extras: Rows, metadata: dict[int, str]) -> list[bytes]:
    """Return for each of `extras` what is hashed of it, in order."""
    found = [b""] * len(extras)
    has = extras["has"].astype(np.int64)
    for mask in np.unique(has).tolist():
        where = np.flatnonzero(has == mask)
        named = [name for bit, name in enumerate(_OPTIONAL) if mask >> bit & 1]
        packed = np.zeros(len(where), _packed(named))
        for name in named:
            packed["tag_" + name] = _OPTIONAL[name]
            packed[name] = extras[name][where]
        whole, step = packed.tobytes(), packed.itemsize
        for i, position in enumerate(where.tolist()):
            found[position] = whole[i * step : (i + 1) * step]
        if mask & METADATA:
            for position, seq in zip(where.tolist(), extras["seq"][where].tolist(), strict=True):
                found[position] += b"\x06" + _sorted_json(json.loads(metadata[seq])).encode()
    return found


def _packed(named: Sequence[str]) -> np.dtype[Any]:
    return np.dtype([part for name in named for part in (("tag_" + name, "u1"), (name, EXTRA[name]))])


def root(hashes: Sequence[bytes]) -> bytes:
    """Return the root of the tree over `hashes`."""
    if not hashes:
        return _NOTHING
    while len(hashes) > 1:
        hashes = [
            sha256(b"\x01" + b"".join(hashes[at : at + _BRANCHES])).digest()
            for at in range(0, len(hashes), _BRANCHES)
        ]
    return hashes[0]


def batch(before: bytes, header: bytes, refusals: bytes) -> bytes:
    """Hash a batch. `header`: number, first_seq, at, counts and root; `refusals`: ids and outcomes."""
    return sha256(b"\x02" + before + header + sha256(refusals).digest()).digest()
