"""Look-ups share queries, and what they keep is never older than they say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from holdfast.domains.instruments.rules import looks_like_card_number
from holdfast.platform.batch import Lookup


class Table:
    """What is looked up, with each query that was made. `gate` holds queries back while it is closed."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {"a": 1, "b": 2}
        self.queries: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.now_s = 0.0
        self.broken = False

    async def load(self, keys: Sequence[str]) -> dict[str, int]:
        self.queries.append(list(keys))
        found = {key: self.rows[key] for key in keys if key in self.rows}
        await self.gate.wait()
        if self.broken:
            raise ConnectionError("gone")
        return found

    def lookup(self, keep_s: float = 10.0, **how: int) -> Lookup[str, int]:
        return Lookup(self.load, lambda: self.now_s, keep_s=keep_s, **how)


async def test_callers_that_come_while_a_query_is_under_way_share_the_next() -> None:
    table = Table()
    table.gate.clear()
    lookup = table.lookup()
    tasks = [asyncio.create_task(lookup.get("a"))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(lookup.get(key)) for key in ("b", "c", "b", "a")]
    await asyncio.sleep(0)
    table.gate.set()
    assert await asyncio.gather(*tasks) == [1, 2, None, 2, 1]
    assert table.queries == [["a"], ["b", "c"]]


async def test_what_is_fresh_is_not_asked_again_and_what_is_old_is() -> None:
    table = Table()
    lookup = table.lookup()
    assert await lookup.get("a") == 1
    table.rows["a"] = 5
    table.now_s = 4.9
    assert (lookup.peek("a"), await lookup.get("a")) == ((1,), 1)
    table.now_s = 10.0
    assert lookup.peek("a") is None
    assert await lookup.get("a") == 5
    assert len(table.queries) == 2


async def test_in_the_second_half_of_their_time_values_are_refreshed_beside_by_one_query() -> None:
    table = Table()
    lookup = table.lookup(keep_s=0.1)
    await asyncio.gather(lookup.get("a"), lookup.get("b"), lookup.get("c"))
    table.rows = {"a": 5, "b": 6}
    table.now_s = 0.06
    assert [await lookup.get(key) for key in "abca"] == [1, 2, None, 1]
    await asyncio.sleep(0.05)
    assert [lookup.peek(key) for key in "abc"] == [(5,), (6,), (None,)]
    assert table.queries[1:] == [["a", "b", "c"]]


async def test_what_was_forgotten_before_its_refresh_is_not_asked_for() -> None:
    table = Table()
    lookup = table.lookup(keep_s=0.1)
    await lookup.get("a")
    table.now_s = 0.06
    lookup.peek("a")
    lookup.forget("a")
    await asyncio.sleep(0.05)
    assert len(table.queries) == 1
    assert lookup.peek("a") is None


async def test_what_is_not_there_is_kept_too_until_it_is_forgotten() -> None:
    table = Table()
    lookup = table.lookup()
    assert await lookup.get("c") is None
    table.rows["c"] = 3
    assert await lookup.get("c") is None
    lookup.forget("c")
    assert await lookup.get("c") == 3


async def test_what_was_forgotten_while_a_query_was_under_way_is_not_kept() -> None:
    table = Table()
    table.gate.clear()
    lookup = table.lookup()
    asked = asyncio.create_task(lookup.get("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    table.rows["a"] = 9
    lookup.forget("a")
    table.gate.set()
    assert await asked == 1
    assert await lookup.get("a") == 9


async def test_an_error_reaches_everybody_who_waits_and_is_not_kept() -> None:
    table = Table()
    table.broken = True
    lookup = table.lookup()
    answers = await asyncio.gather(lookup.get("a"), lookup.get("b"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionError, ConnectionError]
    table.broken = False
    assert await lookup.get("a") == 1


async def test_what_is_kept_is_bounded() -> None:
    table = Table()
    table.rows = {str(n): n for n in range(100)}
    lookup = table.lookup(entries_max=10, batch_max=7)
    await asyncio.gather(*(lookup.get(str(n)) for n in range(100)))
    assert sum(lookup.peek(str(n)) is not None for n in range(100)) == 10
    assert max(len(query) for query in table.queries) <= 7


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("4242424242424242", True),
        ("4242 4242 4242 4242", True),
        ("5555-5555-5555-4444", True),
        ("card 378282246310005 of mine", True),
        ("4242424242424241", False),
        ("pm_card_visa", False),
        ("order 20261123", False),
        ("12345678901", False),
    ],
)
def test_a_card_number_is_told_by_its_check_digit(text: str, is_one: bool) -> None:
    assert looks_like_card_number(text) is is_one
