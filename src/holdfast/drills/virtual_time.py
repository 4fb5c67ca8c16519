"""An event loop whose time is virtual: it never waits, and the order of what is ready is drawn from a seed.

Nothing in it may use sockets, threads or processes. The same seed gives the same run, event by event.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from heapq import heappop
from random import Random
from typing import Any, Final, TypeVar

T = TypeVar("T")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_RESOLUTION_S: Final = 1e-9


class Stalled(RuntimeError):
    """Every task waits and no timer is set: the simulated program is deadlocked."""


class _NoWaiting(selectors.BaseSelector):
    """A selector that never waits: instead of sleeping it moves the loop's clock."""

    def __init__(self) -> None:
        self._files: dict[Any, selectors.SelectorKey] = {}
        self.now_s = 0.0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:  # noqa: ANN401
        key = selectors.SelectorKey(fileobj, 0, events, data)
        self._files[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:  # noqa: ANN401
        return self._files.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stalled("every task waits and no timer is set")
        self.now_s += timeout
        return []

    def get_map(self) -> Any:  # noqa: ANN401
        return self._files


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on virtual time.

    With `shuffle`, what is ready at one moment runs in an order drawn from `seed`.
    """

    def __init__(self, seed: int = 0, *, shuffle: bool = True) -> None:
        self._waits = _NoWaiting()
        super().__init__(self._waits)
        self._order = Random(seed) if shuffle else None  # noqa: S311 - a simulation repeats by seed

    def time(self) -> float:
        """Return virtual seconds since the loop began."""
        return self._waits.now_s

    def _run_once(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        if self._order is not None:
            if len(ready) > 1:
                items = list(ready)
                ready.clear()
                self._order.shuffle(items)
                ready.extend(items)
            super()._run_once()  # type: ignore[misc]
            return
        while not self._stopping:  # type: ignore[attr-defined]
            self._turn(ready, self._scheduled)  # type: ignore[attr-defined]

    def _turn(self, ready: deque[asyncio.Handle], timers: list[asyncio.TimerHandle]) -> None:
        """Take one turn: what asyncio's own does, less what only files, threads and a real clock need.

        A drill takes about ten turns for each payment.
        """
        waits = self._waits
        while timers and timers[0].cancelled():
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            heappop(timers)._scheduled = False  # type: ignore[attr-defined]  # noqa: SLF001
        if not ready:
            if not timers:
                raise Stalled("every task waits and no timer is set")
            waits.now_s += max(0.0, timers[0].when() - waits.now_s)
        end_s = waits.now_s + _RESOLUTION_S
        while timers and timers[0].when() < end_s:
            handle = heappop(timers)
            handle._scheduled = False  # type: ignore[attr-defined]  # noqa: SLF001
            ready.append(handle)
        for _ in range(len(ready)):
            due = ready.popleft()
            if not due.cancelled():
                due._run()  # noqa: SLF001


class VirtualClock:
    """The `Clock` of a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._told_s = 0.0
        self._told = EPOCH

    def now(self) -> datetime:
        """Return the virtual time, aware, UTC."""
        now_s = self._loop.time()
        if now_s != self._told_s:
            self._told_s, self._told = now_s, EPOCH + timedelta(seconds=now_s)
        return self._told

    def monotonic_s(self) -> float:
        """Return virtual seconds since the loop began."""
        return self._loop.time()

    async def sleep(self, delay_s: float) -> None:
        """Wait in virtual time."""
        await asyncio.sleep(delay_s)


def run(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run `main` to its end on `loop`, cancel what it left behind, close the loop."""
    try:
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()
