"""An event loop whose time is virtual: it never waits, and the order of what is ready is drawn from a seed.

Nothing in it may use sockets, threads or processes. The same seed gives the same run, event by event.
"""

from __future__ import annotations

import asyncio
import selectors
import signal
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from random import Random
from types import FrameType
from typing import Any, Final, TypeVar

T = TypeVar("T")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_RESOLUTION_S: Final = 1e-9


class Stalled(RuntimeError):
    """Every task waits and no timer is set: the simulated program is deadlocked."""


class _NoFiles(selectors.BaseSelector):
    """A selector that only holds what the loop itself registers: no turn asks it."""

    def __init__(self) -> None:
        self._files: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:  # noqa: ANN401
        key = selectors.SelectorKey(fileobj, 0, events, data)
        self._files[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:  # noqa: ANN401
        return self._files.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        del timeout
        return []

    def get_map(self) -> Any:  # noqa: ANN401
        return self._files


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on virtual time.

    With `shuffle`, what is ready at one moment runs in an order drawn from `seed`.

    It takes its turns itself, without what only files, threads and a real clock need: a drill takes about ten
    turns for each payment.
    """

    def __init__(self, seed: int = 0, *, shuffle: bool = True) -> None:
        self.now_s = 0.0
        super().__init__(_NoFiles())
        self._order = Random(seed) if shuffle else None  # noqa: S311 - a simulation repeats by seed
        self._timers: list[tuple[float, int, asyncio.TimerHandle | asyncio.Future[None]]] = []
        self._timers_set = 0

    def time(self) -> float:
        """Return virtual seconds since the loop began."""
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        """Wait in virtual time: `asyncio.sleep` at half of its cost."""
        if delay_s <= 0.0:
            await asyncio.sleep(0)
            return
        wakes: asyncio.Future[None] = asyncio.Future(loop=self)
        self._set(self.now_s + delay_s, wakes)
        await wakes

    def call_at(
        self, when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call `callback` at the virtual moment `when`; what was set first comes first among equals."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._set(when, timer)
        return timer

    def _set(self, when: float, timer: asyncio.TimerHandle | asyncio.Future[None]) -> None:
        self._timers_set += 1
        heappush(self._timers, (when, self._timers_set, timer))

    def call_soon(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.Handle:
        """Call `callback` in the next turn."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def _run_once(self) -> None:
        """Take turns until the loop is stopped.

        A turn runs what is ready, then what is due; what either makes ready runs in the next one.
        """
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        timers, order = self._timers, self._order
        while not self._stopping:  # type: ignore[attr-defined]
            if not ready:
                self._pass_time()
            elif order is not None and len(ready) > 1:
                items = list(ready)
                ready.clear()
                order.shuffle(items)
                ready.extend(items)
            end_s = self.now_s + _RESOLUTION_S
            due = []
            while timers and timers[0][0] < end_s:
                due.append(heappop(timers)[2])
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()  # noqa: SLF001
            for timer in due:
                if isinstance(timer, asyncio.Future):
                    if not timer.done():
                        timer.set_result(None)
                elif not timer.cancelled():
                    timer._run()  # noqa: SLF001

    def _pass_time(self) -> None:
        """Go on to the moment of the next timer that somebody still waits for."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heappop(timers)
        if not timers:
            raise Stalled("every task waits and no timer is set")
        self.now_s += max(0.0, timers[0][0] - self.now_s)


class VirtualClock:
    """The `Clock` of a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._told_s = 0.0
        self._told = EPOCH

    def now(self) -> datetime:
        """Return the virtual time, aware, UTC."""
        now_s = self._loop.now_s
        if now_s != self._told_s:
            self._told_s, self._told = now_s, EPOCH + timedelta(seconds=now_s)
        return self._told

    def monotonic_s(self) -> float:
        """Return virtual seconds since the loop began."""
        return self._loop.now_s

    async def sleep(self, delay_s: float) -> None:
        """Wait in virtual time."""
        await self._loop.sleep(delay_s)


def run(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run `main` to its end on `loop`, cancel what it left behind, close the loop.

    Raises: `KeyboardInterrupt` on Ctrl-C, and whatever `main` raises.
    """
    task = loop.create_task(main)
    try:
        with _interrupting(task):
            return loop.run_until_complete(task)
    finally:
        left = asyncio.all_tasks(loop)
        for task_left in left:
            task_left.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()


@contextmanager
def _interrupting(task: asyncio.Task[Any]) -> Iterator[None]:
    """Have Ctrl-C cancel `task`, as `asyncio.run` does.

    Raised wherever Python happens to be, it may be swallowed there, or a wake-up be lost.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        if pressed > 1:
            signal.default_int_handler(number, frame)
        task.cancel()

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except asyncio.CancelledError:
        if not pressed:
            raise
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
