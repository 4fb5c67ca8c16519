"""Columns of values as PostgreSQL arrays in binary form, made whole instead of element by element.

The layout is that of PostgreSQL's own `array_recv`: number of dimensions, whether there are nulls, element
type, length and lower bound of the one dimension, then each element as its length and its bytes, big-endian.
A driver adapts element by element; the commit lane
sends thousands at a time.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

from holdfast.base.errors import Broken

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_OIDS: Final = {
    "boolean": 16, "bytea": 17, "bigint": 20, "smallint": 21, "integer": 23, "text": 25,
    "double precision": 701, "timestamptz": 1184, "uuid": 2950, "jsonb": 3802,
}  # fmt: skip
_NULL: Final = struct.pack("!i", -1)
_INT_DTYPES: Final = {
    oid: (np.dtype([("length", ">i4"), ("value", f">i{size}")]), size)
    for oid, size in ((20, 8), (23, 4), (21, 2))
}
_UUID_DTYPE: Final = np.dtype([("length", ">i4"), ("value", "V16")])


class Packed(bytes):
    """A parameter that is binary already; it goes out as it is. Cast it in the statement: `%b::bigint[]`."""

    __slots__ = ()


class _PackedDumper(Dumper):
    format = Format.BINARY
    oid = 0

    def dump(self, obj: Any) -> Buffer | None:  # noqa: ANN401 - the signature of the base class
        return bytes(obj)


psycopg.adapters.register_dumper(Packed, _PackedDumper)


def _head(oid: int, count: int, *, nulls: bool = False) -> bytes:
    return struct.pack("!iiIii", 1, int(nulls), oid, count, 1) if count else struct.pack("!iiI", 0, 0, oid)


def _integers(oid: int, values: Sequence[int] | npt.NDArray[Any]) -> Packed:
    dtype, size = _INT_DTYPES[oid]
    rows = np.empty(len(values), dtype)
    rows["length"] = size
    rows["value"] = values
    return Packed(_head(oid, len(values)) + rows.tobytes())


def bigints(values: Sequence[int] | npt.NDArray[Any]) -> Packed:
    """Pack whole numbers of 64 bits, without nulls."""
    return _integers(20, values)


def integers(values: Sequence[int] | npt.NDArray[Any]) -> Packed:
    """Pack whole numbers of 32 bits, without nulls."""
    return _integers(23, values)


def smallints(values: Sequence[int] | npt.NDArray[Any]) -> Packed:
    """Pack whole numbers of 16 bits, without nulls."""
    return _integers(21, values)


def uuids(sixteens: bytes) -> Packed:
    """Pack UUIDs, without nulls, given as their bytes one after the other."""
    values = np.frombuffer(sixteens, "V16")
    rows = np.empty(len(values), _UUID_DTYPE)
    rows["length"] = 16
    rows["value"] = values
    return Packed(_head(2950, len(values)) + rows.tobytes())


def _bytes_of_time(value: datetime) -> bytes:
    return struct.pack("!q", (value - _EPOCH) // _MICROSECOND)


_length: Final = struct.Struct("!i").pack
_BYTE: Final = _length(1)
_EIGHT: Final = _length(8)
_SIXTEEN: Final = _length(16)


def _sized(body: bytes) -> bytes:
    return _length(len(body)) + body


@lru_cache(4_096)
def _sized_time(value: datetime) -> bytes:
    """Pack a moment. Rows of one payment carry the same object half a dozen times, and it keeps its hash."""
    return _EIGHT + _bytes_of_time(value)


def _json_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_ELEMENT: Final[dict[str, Callable[[Any], bytes]]] = {
    "boolean": lambda v: _BYTE + (b"\x01" if v else b"\x00"),
    "bytea": lambda v: _sized(bytes(v)),
    "bigint": partial(struct.Struct("!iq").pack, 8),
    "smallint": partial(struct.Struct("!ih").pack, 2),
    "integer": partial(struct.Struct("!ii").pack, 4),
    "text": lambda v: _sized(v.encode()),
    "double precision": partial(struct.Struct("!id").pack, 8),
    "timestamptz": _sized_time,
    "uuid": lambda v: _SIXTEEN + v.int.to_bytes(16, "big"),
    "jsonb": lambda v: _sized(b"\x01" + v.encode()),
}
"""How one value is packed, its length before it."""


_SHORT: Final = {
    "bool": "boolean",
    "int8": "bigint",
    "int4": "integer",
    "int2": "smallint",
    "float8": "double precision",
}
"""PostgreSQL's own other names of the same types."""
for _short, _long in _SHORT.items():
    _OIDS[_short] = _OIDS[_long]
    _ELEMENT[_short] = _ELEMENT[_long]


_NoneType: Final = type(None)
_pack_bigint: Final = struct.Struct("!iq").pack
_DISTINCT: Final[dict[str, Callable[[Sequence[Any]], list[bytes]]]] = {
    "bigint": lambda rows: [_pack_bigint(8, v) for v in rows],
    "bytea": lambda rows: [_length(len(v)) + v for v in rows],
    "text": lambda rows: [_length(len(v)) + v for v in map(str.encode, rows)],
    "uuid": lambda rows: [_SIXTEEN + v.int.to_bytes(16, "big") for v in rows],
}
"""Kinds whose columns, unless all equal, hold mostly different values: how to pack them without nulls."""
_DISTINCT["int8"] = _DISTINCT["bigint"]


def _all_equal(rows: Sequence[object], kind: str) -> bool:
    """Tell whether a column holds one value only. UUIDs count as different: to compare them costs more."""
    first = rows[0]
    if kind == "uuid":
        return len(rows) == 1 or (first is None and rows.count(None) == len(rows))
    return first == rows[-1] and rows.count(first) == len(rows)


def _parts(kind: str, rows: Sequence[Any]) -> tuple[list[bytes], bool]:
    """Return each value packed, those that repeat packed once, and whether there is a null."""
    encode = _ELEMENT[kind]
    if kind == "uuid":
        parts = [_NULL if value is None else encode(value) for value in rows]
        return parts, True
    packed: dict[object, bytes] = {None: _NULL}
    parts = []
    for value in rows:
        part = packed.get(value)
        if part is None:
            part = packed[value] = encode(value)
        parts.append(part)
    return parts, None in rows


def column(kind: str, values: Iterable[object]) -> Packed:
    """Pack a column of PostgreSQL type `kind`; `None` is null. For jsonb a `str` is JSON text already.

    A value that stands in the column before (a state, an asset, an empty text) is packed once.
    Raises: `Broken` when the type is not one of those known here, or a value does not fit it.
    """
    if kind not in _OIDS:
        raise Broken(f"columns of type {kind!r} cannot be packed; known are {', '.join(_OIDS)}")
    rows = tuple(map(_json_text, values)) if kind == "jsonb" else tuple(values)
    try:
        if rows and _all_equal(rows, kind):
            first = rows[0]
            part = _NULL if first is None else _ELEMENT[kind](first)
            return Packed(_head(_OIDS[kind], len(rows), nulls=first is None) + part * len(rows))
        distinct = _DISTINCT.get(kind)
        if distinct is None or _NoneType in set(map(type, rows)):
            parts, nulls = _parts(kind, rows)
        else:
            parts, nulls = distinct(rows), False
    except (TypeError, ValueError, AttributeError, struct.error, OverflowError) as error:
        raise Broken(f"a value does not fit a column of type {kind}: {error}") from error
    return Packed(_head(_OIDS[kind], len(parts), nulls=nulls) + b"".join(parts))


def uuid_bytes(values: Iterable[UUID]) -> bytes:
    """Return the bytes of UUIDs, one after the other."""
    return b"".join([value.int.to_bytes(16, "big") for value in values])


def time(value: datetime) -> bytes:
    """Return one timestamptz in binary form."""
    return _bytes_of_time(value)


def boolean(value: bool) -> bytes:
    """Return one boolean in binary form."""
    return b"\x01" if value else b"\x00"
