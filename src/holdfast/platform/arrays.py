"""Columns of values as PostgreSQL arrays in binary form, made whole instead of element by element.

The layout is that of PostgreSQL's own `array_recv`: number of dimensions, whether there are nulls, element
type, length and lower bound of the one dimension, then each element as its length and its bytes, big-endian.
A driver adapts element by element; the commit lane
sends thousands at a time.

Whole rows go through `columns`. A row that another process made ready is a `PackedRow`: each value in binary
form already, without its length, so that a column of them is only joined.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from operator import itemgetter
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


class PackedRow(tuple[bytes | None, ...]):
    """One row, each value in PostgreSQL's binary form without its length; None is null.

    Made by `RowShape.pack`, or by `RowShape.check` of what came from elsewhere.
    """

    __slots__ = ()


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


def _microseconds(value: datetime) -> int:
    since = value - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _bytes_of_time(value: datetime) -> bytes:
    return struct.pack("!q", _microseconds(value))


_length: Final = struct.Struct("!i").pack
_BYTE: Final = _length(1)
_EIGHT: Final = _length(8)
_SIXTEEN: Final = _length(16)


def _sized(body: bytes) -> bytes:
    return _length(len(body)) + body


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
    "timestamptz": lambda v: _EIGHT + _bytes_of_time(v),
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
    "timestamptz": lambda rows: [_pack_bigint(8, _microseconds(v)) for v in rows],
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


_BODY: Final[dict[str, Callable[[Any], bytes]]] = {
    "boolean": lambda v: b"\x01" if v else b"\x00",
    "bytea": bytes,
    "bigint": struct.Struct("!q").pack,
    "smallint": struct.Struct("!h").pack,
    "integer": struct.Struct("!i").pack,
    "text": str.encode,
    "double precision": struct.Struct("!d").pack,
    "timestamptz": lru_cache(4_096)(_bytes_of_time),
    "uuid": lambda v: v.int.to_bytes(16, "big"),
    "jsonb": lambda v: b"\x01" + (_json_text(v) or "").encode(),
}
"""How one value is packed, without its length."""
_SIZES: Final = {
    "boolean": 1, "bigint": 8, "smallint": 2, "integer": 4, "double precision": 8, "timestamptz": 8,
    "uuid": 16,
}  # fmt: skip
"""Bytes of a value, of kinds whose values all have the same."""
for _short, _long in _SHORT.items():
    _BODY[_short] = _BODY[_long]
    _SIZES[_short] = _SIZES[_long]
_BOOLEANS: Final = frozenset((b"\x00", b"\x01", None))
_LAYOUTS_MAX: Final = 256
"""Patterns of nulls that are remembered of one list of columns: there are a handful."""


def _pick(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]] | None:
    """Return what takes the values at `places` out of a row, as a tuple; one alone is taken twice."""
    return itemgetter(*places, *places[: len(places) == 1]) if places else None


class RowShape:
    """What rows of some columns look like in binary form; `kinds` are the columns' PostgreSQL types."""

    __slots__ = ("_booleans", "_count", "_fixed", "_jsons", "_kinds", "_packers", "_seen", "_sizes", "_texts")

    def __init__(self, kinds: Sequence[str]) -> None:
        known = [_SHORT.get(kind, kind) for kind in kinds]
        if unknown := [kind for kind in known if kind not in _BODY]:
            raise Broken(f"columns of type {unknown[0]!r} cannot be packed; known are {', '.join(_OIDS)}")
        fixed = [i for i, kind in enumerate(known) if kind in _SIZES]
        self._kinds = ", ".join(kinds)
        self._count = len(known)
        self._packers = tuple(_BODY[kind] for kind in known)
        self._fixed = _pick(fixed)
        self._sizes = self._fixed([_SIZES.get(kind) for kind in known]) if self._fixed else ()
        self._texts = _pick([i for i, kind in enumerate(known) if kind in ("text", "jsonb")])
        self._jsons = _pick([i for i, kind in enumerate(known) if kind == "jsonb"])
        self._booleans = _pick([i for i, kind in enumerate(known) if kind == "boolean"])
        self._seen: set[tuple[int, ...]] = set()

    def pack(self, row: Sequence[object]) -> PackedRow:
        """Pack a row of such values as `column` takes. Raises: `Broken` when one does not fit."""
        try:
            return PackedRow(
                [
                    None if value is None else pack(value)
                    for pack, value in zip(self._packers, row, strict=True)
                ]
            )
        except (TypeError, ValueError, AttributeError, struct.error, OverflowError) as error:
            raise Broken(f"a row does not fit columns of {self._kinds}: {error}") from error

    def check(self, row: Sequence[bytes | None]) -> PackedRow:
        """Take a row that was packed elsewhere.

        Raises: `Broken` when a value has no size that its column takes, or is no text where there is one.
        """
        if len(row) != self._count or not (self._sizes_fit(row) and self._texts_fit(row)):
            raise Broken(f"a packed row does not fit columns of {self._kinds}")
        if self._booleans is not None and not _BOOLEANS.issuperset(self._booleans(row)):
            raise Broken(f"a packed row does not fit columns of {self._kinds}")
        return PackedRow(row)

    def _sizes_fit(self, row: Sequence[bytes | None]) -> bool:
        if self._fixed is None:
            return True
        sizes = self._fixed([-1 if value is None else len(value) for value in row])
        if sizes not in self._seen:
            if any(size not in (-1, right) for size, right in zip(sizes, self._sizes, strict=True)):
                return False
            if len(self._seen) < _LAYOUTS_MAX:
                self._seen.add(sizes)
        return True

    def _texts_fit(self, row: Sequence[bytes | None]) -> bool:
        if self._texts is None:
            return True
        texts = self._texts(row)
        whole = b"".join(filter(None, texts))
        if 0 in whole or not (whole.isascii() or all(map(_is_text, texts))):
            return False
        return self._jsons is None or all(j is None or j[:1] == b"\x01" for j in self._jsons(row))


def _is_text(value: bytes | None) -> bool:
    try:
        return value is None or value.decode() is not None
    except UnicodeDecodeError:
        return False


@lru_cache(256)
def row_shape(kinds: tuple[str, ...]) -> RowShape:
    """Return the shape of rows of columns of `kinds`. Raises: `Broken` when one is not known here."""
    return RowShape(kinds)


def columns(kinds: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> tuple[Packed, ...]:
    """Pack rows, some of them perhaps packed already, into one array for each column. Raises: `Broken`."""
    types = set(map(type, rows))
    if PackedRow not in types:
        return tuple(
            column(kind, values) for kind, values in zip(kinds, zip(*rows, strict=True), strict=True)
        )
    packed: Any = rows
    if len(types) > 1:
        packed = [row if type(row) is PackedRow else row_shape(kinds).pack(row) for row in rows]
    return tuple(_join(kind, values) for kind, values in zip(kinds, zip(*packed, strict=True), strict=True))


def _join(kind: str, values: tuple[bytes | None, ...]) -> Packed:
    """Make an array of values that are packed."""
    count, first, nulls = len(values), values[0], None in values
    if first == values[-1] and values.count(first) == count:
        whole = (_NULL if first is None else _sized(first)) * count
    elif nulls:
        whole = b"".join([_NULL if value is None else _length(len(value)) + value for value in values])
    elif (size := _SIZES.get(kind)) is not None:
        length = _length(size)
        whole = length + length.join(values)  # type: ignore[arg-type]
    else:
        whole = b"".join([_length(len(value)) + value for value in values])  # type: ignore[arg-type,operator]
    return Packed(_head(_OIDS[kind], count, nulls=nulls) + whole)


def uuid_bytes(values: Iterable[UUID]) -> bytes:
    """Return the bytes of UUIDs, one after the other."""
    return b"".join([value.int.to_bytes(16, "big") for value in values])


def time(value: datetime) -> bytes:
    """Return one timestamptz in binary form."""
    return _bytes_of_time(value)


def boolean(value: bool) -> bytes:
    """Return one boolean in binary form."""
    return b"\x01" if value else b"\x00"
