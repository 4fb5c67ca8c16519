"""One event loop in virtual time with several processes in it, each of which can be stopped and killed.

What a process does is known by a context variable that all its tasks, callbacks and timers inherit. A stopped
process runs nothing while the others, and the world's clock, go on; a killed one never runs again, not even
its `finally`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop
from typing import Any

from holdfast.drills.virtual_time import VirtualLoop

_RESOLUTION_S = 1e-9


class Gate:
    """What lets the callbacks of one life of a process through. `steps`: how many have run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shut = False
        self.killed = False
        self.steps = 0
        self.before_step: Callable[[], None] | None = None
        """Called before each step, for a test that stops or kills the process at one."""
        self.held: list[asyncio.Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.context: Context = copy_context()
        self.context.run(GATE.set, self)


GATE: ContextVar[Gate | None] = ContextVar("gate", default=None)


class ProcessLoop(VirtualLoop):
    """The loop of a world. `world` is the context of what is outside every process: network and database."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.outside = copy_context()
        self.set_task_factory(_remembered)

    def later(self, delay_s: float, what: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Call `what` outside every process, whoever asks for it."""
        return self.call_at(self.now_s + delay_s, what, *args, context=self.outside)

    def spawn(self, gate: Gate, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` in a process."""
        return gate.context.run(self.create_task, work)

    def stop_process(self, gate: Gate) -> None:
        gate.shut = True

    def go_on(self, gate: Gate) -> None:
        """Continue a stopped process: everything that fell due meanwhile is due now."""
        if not gate.killed:
            gate.shut = False
            self._ready.extend(gate.held)  # type: ignore[attr-defined]
            gate.held = []

    def kill_process(self, gate: Gate) -> None:
        gate.shut = gate.killed = True

    def bury(self, gate: Gate) -> None:
        """Let what is left of a killed process unwind, once nothing of it matters any more."""
        gate.shut = False
        for task in gate.tasks:
            task.cancel()
        self._ready.extend(gate.held)  # type: ignore[attr-defined]
        gate.held = []

    def _run_once(self) -> None:
        """Take one turn: what is ready and what is due, in an order drawn from the seed."""
        ready, timers = self._ready, self._timers  # type: ignore[attr-defined]
        if not ready:
            self._pass_time()
        end_s = self.now_s + _RESOLUTION_S
        while timers and timers[0][0] < end_s:
            timer = heappop(timers)[2]
            assert isinstance(timer, asyncio.TimerHandle), "processes sleep by asyncio's own timers"
            ready.append(timer)
        items = list(ready)
        ready.clear()
        if len(items) > 1 and self._order is not None:
            self._order.shuffle(items)
        for handle in items:
            if not handle.cancelled():
                self._let_through(handle)

    def _let_through(self, handle: asyncio.Handle) -> None:
        gate = handle._context.get(GATE)  # type: ignore[attr-defined]
        if gate is None:
            handle._run()
            return
        if gate.before_step is not None and not gate.shut:
            gate.before_step()
        if gate.shut:
            gate.held.append(handle)
        else:
            gate.steps += 1
            handle._run()


def _remembered(
    loop: asyncio.AbstractEventLoop, work: Any, context: Context | None = None
) -> asyncio.Task[Any]:
    """Make a task, and keep hold of it: nothing of a killed process is tidied away while it lies there."""
    task = asyncio.Task(work, loop=loop, context=context)
    gate = GATE.get()
    if gate is not None:
        gate.tasks.append(task)
    return task
