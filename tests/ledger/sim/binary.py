"""Reading PostgreSQL's binary form, and scripts, as the writer sends them."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np

from holdfast.domains.ledger.rules import chain
from holdfast.domains.ledger.store import append, copied
from holdfast.platform import arrays

_HEAD = struct.Struct("!iiI")
_LENGTH = struct.Struct("!i")


def integer(raw: bytes) -> int:
    return int.from_bytes(raw, "big", signed=True)


def moment(raw: bytes) -> Any:
    return chain.moment(integer(raw))


_READ: dict[int, Callable[[bytes], Any]] = {
    16: lambda raw: raw[0] == 1,
    17: bytes,
    20: integer,
    21: integer,
    23: integer,
    25: bytes.decode,
    1184: moment,
    2950: lambda raw: UUID(bytes=bytes(raw)),
    3802: lambda raw: json.loads(raw[1:]),
}


def array(raw: bytes | None) -> list[Any]:
    """Read an array of one dimension; nothing is an array of nothing."""
    if raw is None:
        return []
    dimensions, _, oid = _HEAD.unpack_from(raw)
    if not dimensions:
        return []
    count = _LENGTH.unpack_from(raw, 12)[0]
    read, at = _READ[oid], 20
    values: list[Any] = []
    for _ in range(count):
        length = _LENGTH.unpack_from(raw, at)[0]
        at += 4
        if length < 0:
            values.append(None)
        else:
            values.append(read(raw[at : at + length]))
            at += length
    return values


def padded(raw: bytes | None, count: int) -> list[Any]:
    """Read an array of which nothing was sent when it holds nothing but nulls."""
    return [None] * count if raw is None else array(raw)


_COPY = re.compile(r"copy ledger\.transfers_\d{6} \(.*\) from stdin binary")
_COMMIT_HEAD = re.compile(
    r"select ledger\.commit_v1\((\d+), (\d+), (\d+), (\d+), '(.*)', (\d+), 0, "
    r"'\\x([0-9a-f]*)', '\\x([0-9a-f]*)', (?:null|array\[(.*)\]::uuid\[\])\)"
)


def parsed(statement: str, data: bytes) -> tuple[str, Sequence[bytes | None]]:
    """Read a statement of a script as the one with parameters that means the same."""
    if _COPY.fullmatch(statement):
        return append.APPEND_PLAIN, _tuples(data)
    head = _COMMIT_HEAD.fullmatch(statement)
    if head is None:
        return statement, ()
    epoch, commits, batch, first_seq, at, count, root, digest, early = head.groups()
    big, small = struct.Struct("!q").pack, struct.Struct("!i").pack
    ids = [UUID(i.strip("'")) for i in early.split(",")] if early else None
    return append.COMMIT_HEAD, (
        big(int(epoch)), big(int(commits)), big(int(batch)), big(int(first_seq)),
        arrays.time(datetime.fromisoformat(at)), small(int(count)), small(0), bytes.fromhex(root),
        bytes.fromhex(digest), None if ids is None else arrays.uuids(arrays.uuid_bytes(ids)),
    )  # fmt: skip


def _tuples(data: bytes) -> Sequence[bytes]:
    """Read what a COPY brings, field by field, as the server does."""
    assert data.startswith(copied.HEADER)
    at, rows = len(copied.HEADER), []
    while (fields := struct.unpack_from("!h", data, at)[0]) != -1:
        at += 2
        row = []
        for _ in range(fields):
            length = _LENGTH.unpack_from(data, at)[0]
            row.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        rows.append(row)
    assert at + 2 == len(data), "nothing follows the end"
    seq, when, debit, credit, amount, ids, code, asset, kind = zip(*rows, strict=True)
    first = integer(seq[0])
    assert [integer(n) for n in seq] == list(range(first, first + len(rows)))
    assert len(set(when)) == 1

    def big(column: Sequence[bytes]) -> Any:
        return np.array([integer(n) for n in column], np.int64)

    return (
        seq[0], when[0], arrays.uuids(b"".join(ids)), arrays.bigints(big(debit)), arrays.bigints(big(credit)),
        arrays.bigints(big(amount)), arrays.integers(big(code)), arrays.smallints(big(asset)),
        arrays.smallints(big(kind)),
    )  # fmt: skip
