"""Virtual time: nothing waits, and what happens keeps its order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest

from holdfast.drills.virtual_time import Stalled, VirtualLoop, run


def live(loop: VirtualLoop, *works: Coroutine[Any, Any, None]) -> None:
    async def main() -> None:
        await asyncio.gather(*works)

    run(main(), loop)


def test_sleepers_wake_in_the_order_of_their_moments_and_among_equals_as_they_lay_down() -> None:
    loop, woke = VirtualLoop(shuffle=False), list[tuple[str, float]]()

    async def sleep(name: str, *pauses_s: float) -> None:
        for pause_s in pauses_s:
            await loop.sleep(pause_s)
            woke.append((name, loop.time()))

    async def sleep_as_usual(name: str, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        woke.append((name, loop.time()))

    live(loop, sleep("a", 2.0, 1.0), sleep_as_usual("b", 2.0), sleep("c", 2.0), sleep("d", 0.0, 0.5))
    assert woke == [("d", 0.0), ("d", 0.5), ("a", 2.0), ("b", 2.0), ("c", 2.0), ("a", 3.0)]


def test_a_sleep_that_is_given_up_holds_no_time_up() -> None:
    loop = VirtualLoop(shuffle=False)

    async def give_up() -> None:
        sleeper = asyncio.ensure_future(loop.sleep(100.0))
        await loop.sleep(1.0)
        sleeper.cancel()
        with suppress(asyncio.CancelledError):
            await sleeper
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 2.0)

    live(loop, give_up())
    assert loop.time() == 3.0


def test_ctrl_c_ends_what_runs_between_two_steps_and_is_told_to_the_caller() -> None:
    loop, ended = VirtualLoop(shuffle=False), list[str]()

    async def go_on(name: str) -> None:
        try:
            while True:
                await loop.sleep(1.0)
                if loop.time() == 3.0 and name == "second":
                    signal.raise_signal(signal.SIGINT)
                    ended.append("its step is over")
        finally:
            ended.append(name)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            live(loop, go_on("first"), go_on("second"))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended[0] == "its step is over"
    assert sorted(ended[1:]) == ["first", "second"]


def test_a_program_that_waits_for_nothing_is_told_so() -> None:
    loop = VirtualLoop(shuffle=False)

    async def wait() -> None:
        asyncio.ensure_future(loop.sleep(5.0)).cancel()
        await asyncio.Event().wait()

    with pytest.raises(Stalled):
        live(loop, wait())


def test_what_is_ready_at_one_moment_runs_in_an_order_drawn_from_the_seed() -> None:
    def order(seed: int) -> list[int]:
        loop, ran = VirtualLoop(seed), list[int]()

        async def note(number: int) -> None:
            await loop.sleep(1.0)
            ran.append(number)

        live(loop, *(note(number) for number in range(20)))
        return ran

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == list(range(20))
