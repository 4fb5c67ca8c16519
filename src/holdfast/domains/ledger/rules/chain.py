"""What a committed batch is hashed to, so that nobody can alter it unseen.

    leaf   SHA-256 of 0x00, id (16 bytes), debit, credit, amount (8 each), code (4), asset, kind (2 each), and
           then, only where there is one: 1 balancing (2), 2 asked (8), 3 held (8), 4 pending_id (16),
           5 expires_at (8), 7 over (8), 8 settles (1), 6 metadata (the rest), in this order, each behind its
           number as one byte
    root   of a tree with 16 branches: SHA-256 of 0x01 and up to 16 hashes of the level below, in order, level
           by level until one is left; a single leaf is the root, and SHA-256 of nothing the root of nothing
    hash   SHA-256 of 0x02, the hash of the batch before (nothing for the first), number, first_seq, at (8
           each), the counts of transfers and refusals (4 each), root, and SHA-256 of the refusals: of each,
           in order, id and outcome (2)

Whole numbers are big-endian and signed, times microseconds since 2000-01-01 UTC, metadata is JSON in UTF-8
with sorted keys, no spaces and nothing escaped that need not be. `verify` has code of its own for all of it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

import numpy as np
import numpy.typing as npt

FIXED: Final = np.dtype(
    [
        ("tag", "u1"),
        ("id", "V16"),
        ("debit", ">i8"),
        ("credit", ">i8"),
        ("amount", ">i8"),
        ("code", ">i4"),
        ("asset", ">i2"),
        ("kind", ">i2"),
    ]
)
"""The part of a leaf that every transfer has; `tag` is 0."""
BRANCHES: Final = 16
NOTHING_ROOT: Final = sha256(b"").digest()
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_HEADER: Final = struct.Struct("!qqqii").pack
_REFUSAL: Final = struct.Struct("!16sh").pack


def microseconds(moment: datetime) -> int:
    """Return the microseconds from 2000-01-01 UTC to `moment`."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(microseconds_: int) -> datetime:
    """Return the moment so many microseconds after 2000-01-01 UTC."""
    return _EPOCH + microseconds_ * _MICROSECOND


def extension(
    *,
    balancing: int | None = None,
    asked: int | None = None,
    held: int | None = None,
    pending_id: bytes | None = None,
    expires_at: datetime | None = None,
    over: int | None = None,
    settles: bool | None = None,
    metadata: str | None = None,
) -> bytes:
    """Return the part of a leaf that only some transfers have; `metadata` as `canonical` writes it."""
    parts = []
    if balancing is not None:
        parts.append(struct.pack("!bh", 1, balancing))
    if asked is not None:
        parts.append(struct.pack("!bq", 2, asked))
    if held is not None:
        parts.append(struct.pack("!bq", 3, held))
    if pending_id is not None:
        parts.append(b"\x04" + pending_id)
    if expires_at is not None:
        parts.append(struct.pack("!bq", 5, microseconds(expires_at)))
    if over is not None:
        parts.append(struct.pack("!bq", 7, over))
    if settles is not None:
        parts.append(struct.pack("!b?", 8, settles))
    if metadata:
        parts.append(b"\x06" + metadata.encode())
    return b"".join(parts)


def canonical(metadata: Mapping[str, str]) -> str:
    """Write metadata as JSON in the one way that is hashed."""
    return json.dumps(dict(metadata), ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def leaves(rows: npt.NDArray[np.void], extensions: Mapping[int, bytes]) -> list[bytes]:
    """Hash transfers given as rows of `FIXED`. `extensions`: by position, of those that have one."""
    whole, size = rows.tobytes(), FIXED.itemsize
    if not extensions:
        return [sha256(whole[at : at + size]).digest() for at in range(0, len(whole), size)]
    nothing = b""
    return [
        sha256(whole[at : at + size] + extensions.get(position, nothing)).digest()
        for position, at in enumerate(range(0, len(whole), size))
    ]


def levels(hashes: Sequence[bytes]) -> list[list[bytes]]:
    """Return every level of the tree, from the leaves to the one root."""
    found = [list(hashes) or [NOTHING_ROOT]]
    while len(found[-1]) > 1:
        below = found[-1]
        found.append(
            [
                sha256(b"\x01" + b"".join(below[at : at + BRANCHES])).digest()
                for at in range(0, len(below), BRANCHES)
            ]
        )
    return found


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the root of the tree over `hashes`."""
    level = hashes
    if not level:
        return NOTHING_ROOT
    while len(level) > 1:
        level = [
            sha256(b"\x01" + b"".join(level[at : at + BRANCHES])).digest()
            for at in range(0, len(level), BRANCHES)
        ]
    return level[0]


def refused_hash(refusals: Iterable[tuple[bytes, int]]) -> bytes:
    """Hash id and outcome of each refusal that is kept, in order. A receipt bears it instead of the ids."""
    return sha256(b"".join([_REFUSAL(i, outcome) for i, outcome in refusals])).digest()


def batch_hash(
    before: bytes,
    *,
    number: int,
    first_seq: int,
    at: datetime,
    transfers: int,
    refusals: int,
    root: bytes,
    refused: bytes = NOTHING_ROOT,
) -> bytes:
    """Hash a batch. `refusals`: how many are kept; `refused`: their `refused_hash`."""
    head = _HEADER(number, first_seq, microseconds(at), transfers, refusals)
    return sha256(b"".join((b"\x02", before, head, root, refused))).digest()
