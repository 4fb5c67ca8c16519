"""Tasks of asyncio: carrying on when a caller gives up, and ending when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
_carried_on: Final[set[asyncio.Task[Any]]] = set()


async def undisturbed(work: Coroutine[Any, Any, T]) -> T:
    """Do `work` to its end, also when who waits for it gives up."""
    task = asyncio.get_running_loop().create_task(work)
    _carried_on.add(task)
    task.add_done_callback(_done)
    return await asyncio.shield(task)


def _done(task: asyncio.Task[Any]) -> None:
    _carried_on.discard(task)
    if not task.cancelled():
        task.exception()  # looked at, so that nobody is told of it when nobody waits any more


def is_cancelled() -> bool:
    """Tell whether the running task was told to end, for who catches an error that came instead."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
