"""Look-ups that share one query: callers that ask while a query is under way form the next one.

Answers may be kept for a short while. That is for facts whose staleness has a stated bound (a revoked key, a
removed instrument), never for money.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_GATHERED: Final = 20  # refreshes are gathered for this fraction of the time that a value is kept


class Lookup(Generic[K, V]):
    """Finds values by key through `load`, one query for all who wait, and keeps each for `keep_s` seconds.

    A value that is asked for in the second half of its time is loaded again beside, without making the
    caller wait; so a value is never older than `keep_s` plus one query. Such refreshes are gathered for a
    twentieth of `keep_s`, so that many keys in use cost few queries. `None` (there is no such thing) is kept
    as well. At most `entries_max` values are kept; the oldest leave first.
    """

    def __init__(
        self,
        load: Callable[[Sequence[K]], Awaitable[dict[K, V]]],
        now_s: Callable[[], float],
        *,
        keep_s: float,
        entries_max: int = 50_000,
        batch_max: int = 500,
    ) -> None:
        self._load = load
        self._now_s = now_s
        self._keep_s = keep_s
        self._entries_max = entries_max
        self._batch_max = batch_max
        self._kept: dict[K, tuple[float, V | None]] = {}
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._asked: dict[K, None] = {}
        self._ageing: dict[K, None] = {}
        self._outdated: set[K] = set()
        self._runner: asyncio.Task[None] | None = None

    def peek(self, key: K) -> tuple[V | None] | None:
        """Return the kept value in a tuple, or None when it is absent or too old. Awaits nothing."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        left_s = kept[0] - self._now_s()
        if left_s <= 0:
            return None
        if left_s < self._keep_s / 2 and key not in self._waiting and key not in self._ageing:
            self._refresh(key)
        return (kept[1],)

    async def get(self, key: K) -> V | None:
        """Return the value, or None when there is none. Raises: whatever the query raises."""
        kept = self.peek(key)
        if kept is not None:
            return kept[0]
        future = self._waiting.get(key) or self._ask(key)
        return await asyncio.shield(future)

    def forget(self, key: K) -> None:
        """Drop what is kept for `key`, and what a query under way brings: the next caller asks again."""
        self._kept.pop(key, None)
        if key in self._waiting:
            self._outdated.add(key)

    def forget_all(self) -> None:
        """Drop everything that is kept."""
        self._kept.clear()
        self._outdated.update(self._waiting)

    def _ask(self, key: K) -> asyncio.Future[V | None]:
        future: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_seen)
        self._waiting[key] = future
        self._asked[key] = None
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        return future

    def _refresh(self, key: K) -> None:
        if not self._ageing:
            asyncio.get_running_loop().call_later(self._keep_s / _GATHERED, self._ask_ageing)
        self._ageing[key] = None

    def _ask_ageing(self) -> None:
        ageing, self._ageing = self._ageing, {}
        for key in ageing:
            if key in self._kept and key not in self._waiting:
                self._ask(key)

    async def _run(self) -> None:
        while self._asked:
            batch = list(islice(self._asked, self._batch_max))
            for key in batch:
                del self._asked[key]
            try:
                found = await self._load(batch)
            except Exception as error:  # noqa: BLE001 - every waiting caller gets it
                for key in batch:
                    self._outdated.discard(key)
                    self._waiting.pop(key).set_exception(error)
                continue
            self._keep(batch, found)

    def _keep(self, batch: Sequence[K], found: dict[K, V]) -> None:
        until = self._now_s() + self._keep_s
        for key in batch:
            value = found.get(key)
            self._kept.pop(key, None)
            if key in self._outdated:
                self._outdated.discard(key)
            else:
                self._kept[key] = (until, value)
            future = self._waiting.pop(key)
            if not future.done():
                future.set_result(value)
        while len(self._kept) > self._entries_max:
            del self._kept[next(iter(self._kept))]


def _seen(future: asyncio.Future[V | None]) -> None:
    """Take note of an error that nobody may be waiting for (a refresh beside)."""
    if not future.cancelled():
        future.exception()
