"""What crosses to the ledger's writer comes out as it went in, and nothing else comes out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.base.errors import Broken, HoldfastError
from holdfast.domains.ledger.forward import wire
from holdfast.domains.ledger.model import Unit
from holdfast.platform import arrays
from holdfast.platform.postgres import EmbeddedPostgres
from holdfast.platform.unit import Guard, Statement, Write, statement_named, statements_known
from tests.ledger.forwarding import HOLDS, KINDS, WIDE, packed, row, transfer, unit

AGREED = wire.read_statements(wire.write_statements(statements_known()), statements_known())


def test_a_name_stands_for_one_statement() -> None:
    assert statement_named("forward.holds") is HOLDS
    assert statement_named("forward.nothing") is None
    same = Statement(HOLDS.name, HOLDS.sql, HOLDS.columns, HOLDS.rank, HOLDS.sure)
    assert same.digest() == HOLDS.digest()
    for other in (
        {"sql": "select 2"},
        {"columns": ("uuid", "integer")},
        {"rank": 3},
        {"sure": ""},
    ):
        fields: dict[str, Any] = {
            "sql": HOLDS.sql,
            "columns": HOLDS.columns,
            "rank": HOLDS.rank,
            "sure": HOLDS.sure,
        } | other
        with pytest.raises(Broken, match=r"forward\.holds"):
            Statement(HOLDS.name, **fields)
    assert statement_named(HOLDS.name) is HOLDS


MOMENTS = st.datetimes(
    datetime(1, 1, 2), datetime(9999, 12, 30),  # noqa: DTZ001 - the strategy puts the zone to it
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=8))])
)  # fmt: skip
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300)
VALUES = (
    st.uuids(),
    TEXTS,
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**15), 2**15 - 1),
    st.booleans(),
    MOMENTS,
    st.binary(max_size=300),
    st.dictionaries(TEXTS, st.integers(0, 9), max_size=3),
    st.floats(allow_nan=False),
)
ROWS = st.tuples(*(st.none() | one for one in VALUES))


@given(st.lists(st.tuples(ROWS, st.booleans()), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_rows_packed_elsewhere_make_the_same_arrays(drawn: list[tuple[tuple[object, ...], bool]]) -> None:
    shape = arrays.row_shape(KINDS)
    native = [values for values, _ in drawn]
    mixed = [shape.check(list(shape.pack(values))) if far else values for values, far in drawn]
    expected = [
        arrays.column(kind, values) for kind, values in zip(KINDS, zip(*native, strict=True), strict=True)
    ]
    made = arrays.columns(KINDS, mixed)
    assert [one[8:] for one in made] == [one[8:] for one in expected]


def test_postgresql_reads_rows_packed_elsewhere_as_what_they_were(postgres: EmbeddedPostgres) -> None:
    shape = arrays.row_shape(KINDS)
    rows = [row(1), shape.pack(row(2)), shape.pack((None,) * len(KINDS)), shape.pack(row(4))]
    query = f"select * from unnest({', '.join(f'%b::{kind}[]' for kind in KINDS)})".encode()
    with psycopg.connect(postgres.dsn()) as connection:
        for some in (rows, rows[1:2], [shape.pack(row(2))] * 3):
            found = connection.execute(query, arrays.columns(KINDS, some)).fetchall()
            assert len(found) == len(some)
        found = connection.execute(query, arrays.columns(KINDS, rows)).fetchall()
    assert found == [row(1), row(2), (None,) * len(KINDS), row(4)]


KEYS = st.lists(TEXTS | st.integers(-(2**63), 2**63 - 1) | st.uuids(), max_size=5).map(tuple)
TRANSFERS = st.builds(
    transfer,
    st.integers(0, 2**128 - 1),
    amount_minor=st.none() | st.integers(-(2**63), 2**63 - 1),
    kind=st.sampled_from(["posted", "pending", "post_pending", "void_pending"]),
    pending_id=st.none() | st.uuids(),
    expires_at=st.none() | MOMENTS,
    balancing=st.sampled_from([None, "debit", "credit"]),
    code=st.integers(0, 2**31 - 1),
    linked=st.booleans(),
    metadata=st.dictionaries(TEXTS.map(lambda t: t[:40]), TEXTS, max_size=20),
    settles=st.booleans(),
    over_minor=st.integers(-(2**63), 2**63 - 1),
)


@given(st.lists(TRANSFERS, max_size=16), st.lists(ROWS, max_size=3), st.lists(KEYS, max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_unit_comes_out_as_it_went_in(transfers: Any, rows: Any, keys: Any) -> None:
    one = Unit(
        tuple(transfers),
        tuple(Write(WIDE, r) for r in rows),
        tuple(Write(WIDE, r) for r in rows[:1]),
        tuple(Guard(HOLDS, (None, 1), key, claims=bool(key)) for key in keys),
    )
    assert wire.read_unit(AGREED.encode_unit(one)) == packed(one)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda b: b"\x94" + b))
@settings(max_examples=300, deadline=None)
def test_v5_0_0_1_5_2_no_bytes_make_a_reader_do_anything_but_read_or_refuse(data: bytes) -> None:
    for read in READERS:
        try:
            read(data)
        except HoldfastError:
            continue


READERS = (
    wire.read_unit,
    wire.read_groups,
    wire.read_accounts,
    wire.read_closing,
    wire.read_limits,
    wire.read_count,
    wire.read_outcome,
    wire.read_postings,
    wire.read_error,
    wire.read_nothing,
    lambda data: wire.read_statements(data, statements_known()),
)
WHOLE = AGREED.encode_unit(unit())


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_v5_0_0_1_5_2_a_unit_with_bytes_changed_is_a_unit_or_is_refused(
    changes: list[tuple[int, int]],
) -> None:
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    try:
        made = wire.read_unit(bytes(data))
    except HoldfastError:
        return
    assert isinstance(made, Unit)
    for write in (*made.writes, *made.writes_if_refused):
        arrays.columns(write.statement.columns, [write.row])


@given(st.lists(st.binary(max_size=50), max_size=20), st.data())
@settings(max_examples=200, deadline=None)
def test_frames_are_the_same_however_they_are_cut(bodies: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(wire.frame(number, 3, body, 1.5) for number, body in enumerate(bodies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=30)))
    frames = wire.Frames()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += list(frames.feed(whole[start:end]))
    assert found == [(number, 3, 1500, body) for number, body in enumerate(bodies)]


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_v5_0_0_2_2_1_what_is_no_frame_is_kept_within_bounds_or_refused(data: bytes) -> None:
    frames = wire.Frames()
    try:
        list(frames.feed(data))
    except wire.FrameTooLong:
        return
    assert len(frames._rest) <= len(data)
