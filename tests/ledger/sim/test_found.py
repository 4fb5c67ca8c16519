"""Faults that the simulation found, each by the shortest way that leads to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from unittest.mock import patch

from holdfast.base.limits import SEGMENTS_BEHIND_MAX
from holdfast.domains.ledger.store import accounts, behind, seats
from tests.ledger.sim.judge import Judge
from tests.ledger.sim.postgres import Session
from tests.ledger.sim.world import World

Act = Callable[[World], Awaitable[None]]


def judged(act: Act, *, processes: int = 1) -> World:
    """Live through a small world in which nothing happens but what `act` does. Raises: `Violation`."""
    world = World(1, processes=processes, callers=0)
    for process in world.processes:
        process.weather.base_s, process.patience_s, process.batch_transfers_max = 0.001, 0.0, 32
    Judge(world.run(act)).judge()
    return world


def test_who_gives_up_an_account_does_not_part_the_tables_from_what_the_writer_knows() -> None:
    """The caller is gone just when the commit is on its way."""

    async def act(world: World) -> None:
        [process] = world.processes
        last = {"": ""}

        def give_up(session: Session, sql: str) -> None:
            if sql.lower() == "commit" and last.get(session.name) == accounts._LIMIT:
                asking.cancel()
            last[session.name] = sql

        world.postgres.before_statement = give_up
        asking = process.do(world.make(world.asking._limits(process.name), process))
        await asyncio.wait([asking])
        assert world.asking.calls[-1].answer == "given up"
        await asyncio.sleep(1.0)

    judged(act)


def test_who_was_committed_does_not_wait_for_accounts_to_change() -> None:
    async def act(world: World) -> None:
        [process] = world.processes
        world.postgres.flush_s = 0.5
        first = world.asking.post(process.name, 1.0, plain=True)
        asked = [process.do(world.make(first, process))]
        await asyncio.sleep(0.1)
        calls = [world.asking._limits(process.name) for _ in range(4)]
        calls.append(world.asking.post(process.name, 10.0, plain=True))
        asked += [process.do(world.make(call, process)) for call in calls]
        await asyncio.wait(asked)
        world.postgres.flush_s = 0.001

    judged(act)


def test_a_seat_closes_though_the_database_goes_just_when_an_index_is_given_up() -> None:
    async def act(world: World) -> None:
        [process] = world.processes
        works, index = process.seat._behind, behind._INDEX
        assert works is not None
        works._segments[0] = False
        works._to_index.append(0)
        world.postgres.slow_s = {index: 1.0}
        await asyncio.sleep(0.3)
        closing = process.do(process.take_another_seat())
        while works._task is None or not works._task.cancelling():
            await asyncio.sleep(0.0001)
        process.database.cut()
        await asyncio.wait([closing], timeout=10.0)
        assert closing.done(), "the seat closes"
        world.postgres.slow_s = {}

    judged(act)


def test_who_is_elected_and_hangs_does_not_write_under_the_epoch_of_the_next() -> None:
    """It goes on when another writes already: it reads the ledger, and with it the other's epoch."""

    async def act(world: World) -> None:
        one, other = world.processes
        late = [world.asking._limits(one.name), world.asking._close(one.name)]

        def hang(session: Session, sql: str) -> None:
            if sql == seats._FENCE and session.owner is one.gate:
                world.postgres.before_statement = None
                one.stop(2.0)

        world.postgres.before_statement = hang
        other.kill()
        one.kill()
        one.start()
        await asyncio.sleep(0.1)
        other.start()
        asked = [one.do(world.make(call, one)) for call in late]
        await asyncio.sleep(2.5)
        await other.do(world.make(world.asking.post(other.name, 5.0, plain=True), other))
        await asyncio.wait(asked)

    judged(act, processes=2)


def test_who_waits_for_room_and_writes_no_more_is_served_by_who_does() -> None:
    """The disk is full, so that indexes are late; it waits for them, hangs, and another is elected."""

    async def act(world: World) -> None:
        one, other = world.processes
        await one.do(world.make(world.asking.post(one.name, 5.0, plain=True), one))
        works = one.seat._behind
        assert works is not None
        world.postgres.fails.add(behind._INDEX)
        works._segments[works._current] = False
        works._to_index += [works._current] * (SEGMENTS_BEHIND_MAX + 1)
        with patch.object(works, "_unfit", lambda: True):
            waits = one.do(world.make(world.asking.post(one.name, 1.0, plain=True), one))
            await asyncio.sleep(0.5)
            one.stop(3.0)
            await other.do(world.make(world.asking.post(other.name, 5.0, plain=True), other))
            await asyncio.wait([waits])
            again = world.asking.post(one.name, 3.0, plain=True)
            await one.do(world.make(again, one))
        assert again.answer == "done"
        world.postgres.fails.clear()

    judged(act, processes=2)


def test_what_was_answered_before_it_was_sent_is_not_sent() -> None:
    """A batch is made ready while another is slow, and its callers' time passes."""

    async def act(world: World) -> None:
        [process] = world.processes
        process.batch_transfers_max = 1
        await process.do(process.take_another_seat())
        await process.do(world.make(world.asking.post(process.name, 5.0, plain=True), process))
        world.postgres.flush_s = 2.0
        calls = [world.asking.post(process.name, deadline_s, plain=True) for deadline_s in (8.0, 0.5, 0.5)]
        await asyncio.wait([process.do(world.make(call, process)) for call in calls])
        world.postgres.flush_s = 0.001

    judged(act)
