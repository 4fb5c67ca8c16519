"""Reading PostgreSQL's binary form, as the writer sends it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any
from uuid import UUID

from holdfast.domains.ledger.rules import chain

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
