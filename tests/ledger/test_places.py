"""Where the books keep accounts, and how they outlast a writer: places and snapshots."""

from __future__ import annotations

import struct
from datetime import timedelta
from random import Random
from uuid import UUID

import numpy as np
import pytest

from holdfast.base.errors import Broken
from holdfast.domains.ledger.rules import places as places_module
from holdfast.domains.ledger.rules import snapshots
from holdfast.domains.ledger.rules.book import Book
from holdfast.domains.ledger.rules.places import Places
from holdfast.domains.ledger.rules.rulebook import Hold
from tests.ledger.workload import START


@pytest.mark.parametrize("collide", [False, True])
def test_accounts_are_found_where_they_were_put(collide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, and also when all of them want the same few slots."""
    if collide:
        monkeypatch.setattr(places_module, "_FACTOR", 1 << 55)
    random = Random(5)
    numbers = np.array([*random.sample(range(1, 2**63), 3_000), *range(1, 1_000)], np.int64)
    made = Places()
    start = 0
    for size in (0, 1, 500, 1, 1_600, 1_897):
        made.add(numbers[start : start + size])
        start += size
        assert len(made) == start
        assert made.numbers.tolist() == numbers[:start].tolist()
        assert made.find(numbers).tolist() == [*range(start), *[-1] * (len(numbers) - start)]
    assert start == len(numbers)
    for place in random.sample(range(start), 200):
        number = int(numbers[place])
        assert (made[number], made.get(number), number in made) == (place, place, True)
    assert (made.get(1_000), 1_000 in made) == (None, False)
    with pytest.raises(KeyError):
        made[2**63 - 1]
    assert made.find(np.empty(0, np.int64)).tolist() == []


def book_of(sums: list[list[int]], entries: list[int], marked: list[int]) -> Book:
    book = Book(START)
    count = len(entries)
    book.open(np.arange(7, 7 + count), np.full(count, 156), np.arange(count) % 3)
    book.sums[:, :count] = sums
    book.entries[:count], book.marked[:count] = entries, marked
    hold = Hold(7, 8, 156, 12, START + timedelta(hours=1), "open", 3, True)
    book.reserve(UUID(int=1), hold)
    return book


def told(hold: Hold) -> tuple[object, ...]:
    return hold.debit, hold.credit, hold.asset, hold.amount, hold.expires_at, hold.over, hold.settles


def restore(book: Book, payload: bytes) -> None:
    for i, hold in snapshots.restore(book, payload):
        book.reserve(i, hold)


def same(one: Book, other: Book, *, marks: bool = True) -> None:
    assert other.count == one.count
    assert other.places.numbers.tolist() == one.places.numbers.tolist()
    for name in ("asset", "rule", "entries", *(["marked"] if marks else [])):
        assert getattr(other, name)[: one.count].tolist() == getattr(one, name)[: one.count].tolist(), name
    assert other.sums[:, : one.count].tolist() == one.sums[:, : one.count].tolist()
    assert {i: told(h) for i, h in other.holds.items()} == {i: told(h) for i, h in one.holds.items()}


@pytest.mark.parametrize("most", [0, 1, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**61])
def test_a_snapshot_gives_back_what_was_there_however_large_the_numbers_are(most: int) -> None:
    sums = [[most, 0, most // 2], [0, 0, 0], [1, 2, most], [most, most, most]]
    book = book_of(sums, [most, 3, 0], [most // 2, 3, 0])
    again = Book(START)
    restore(again, b"".join(snapshots.payload_of(book)))
    same(book, again)


def test_a_snapshot_of_the_form_before_is_read_and_another_is_refused() -> None:
    book = book_of([[5, 6], [7, 8], [0, 1], [2, 3]], [4, 9], [4, 8])
    whole = b"".join(snapshots.payload_of(book))
    hold = whole[-snapshots._HOLD.size :]
    columns = (np.array([7, 8]), np.array([156, 156], np.int16), np.array([0, 1], np.int8))
    before = b"HFSNAP02" + struct.pack("!qq", 2, 1) + b"".join(c.tobytes() for c in columns)
    before += book.sums[:, :2].tobytes() + book.entries[:2].tobytes() + hold
    again = Book(START)
    restore(again, before)
    same(book, again, marks=False)
    assert again.marked[:2].tolist() == [0, 0], "it did not say, so all are marked again"
    with pytest.raises(Broken, match="not written by this version"):
        restore(Book(START), b"HFSNAP99" + whole[8:])
