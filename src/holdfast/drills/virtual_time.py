"""An event loop whose time is virtual: it never waits, and the order of what is ready is drawn from a seed.

Nothing in it may use sockets, threads or processes. The same seed gives the same run, event by event.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


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
        if self._order is not None and len(ready) > 1:
            items = list(ready)
            ready.clear()
            self._order.shuffle(items)
            ready.extend(items)
        super()._run_once()  # type: ignore[misc]


class VirtualClock:
    """The `Clock` of a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        """Return the virtual time, aware, UTC."""
        return EPOCH + timedelta(seconds=self._loop.time())

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
