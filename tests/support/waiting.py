"""Waiting for something to become true, with a deadline instead of a guess."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, *, within_s: float = 30.0, every_s: float = 0.05) -> T:
    """Return the first true value of `condition`; fail with `what` when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"within {within_s:g} s: {what}")
        time.sleep(every_s)
    return value


async def until_async(
    condition: Callable[[], Awaitable[T]], what: str, *, within_s: float = 30.0, every_s: float = 0.05
) -> T:
    """Return the first true value of what `condition` awaits; fail with `what` when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (value := await condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"within {within_s:g} s: {what}")
        await asyncio.sleep(every_s)
    return value
