"""What the commit lane promises, on both lanes; and what only the one on PostgreSQL has to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count

import psycopg
import pytest

from holdfast.base.errors import Broken, OutcomeUnknown, Unavailable
from holdfast.base.ids import AccountId
from holdfast.base.limits import BATCH_TRANSFERS_MAX, LANE_QUEUE_UNITS_MAX
from holdfast.domains.ledger.errors import (
    ChainTooLong,
    CommitUnknown,
    LaneFull,
    WriterAway,
    WriteRejected,
)
from holdfast.domains.ledger.model import Balance, Group, NewAccount, NewTransfer, Outcome, Unit, UnitOutcome
from holdfast.domains.ledger.operations import Seat
from holdfast.domains.ledger.verify import verify
from holdfast.domains.ledger.writer.lane import Lane
from holdfast.platform.db import Database
from holdfast.platform.unit import Write
from tests.ledger.conftest import NOTE, Stage, bump, claim, note, on_postgres, version_is
from tests.ledger.test_posting import PAYER, SHOP, WORLD, move
from tests.ledger.workload import StillClock

_names = count(1)


def fresh(prefix: str) -> str:
    return f"{prefix}{next(_names)}"


async def opened(stage: Stage) -> None:
    await stage.ledger.open_accounts(
        [
            NewAccount(WORLD, "world", "CNY"),
            NewAccount(PAYER, "payer", "CNY", "debits_must_not_exceed_credits"),
            NewAccount(SHOP, "shop", "CNY"),
        ]
    )
    await stage.ledger.post([move(WORLD, PAYER, 100)])


async def test_transfers_and_rows_commit_together(stage: Stage) -> None:
    await opened(stage)
    done = await stage.lane.submit(
        Unit((move(PAYER, SHOP, 60),), writes=(note("paid", "60"),), guards=(claim("key"),))
    )
    assert done.status == "committed"
    assert done.postings[0].outcome is Outcome.POSTED
    assert await stage.notes() == {"paid": "60"}
    assert await stage.claims() == {"key"}
    assert (await stage.ledger.balances([SHOP]))[SHOP].net_minor == 60


async def test_a_refused_unit_writes_only_what_it_has_for_that_and_keeps_its_claim(stage: Stage) -> None:
    await opened(stage)
    unit = Unit(
        (move(WORLD, SHOP, 5), move(PAYER, SHOP, 101)),
        writes=(note("paid"),), writes_if_refused=(note("declined"),), guards=(claim("key"),),
    )  # fmt: skip
    done = await stage.lane.submit(unit)
    assert done.status == "refused"
    assert [p.outcome for p in done.postings] == [Outcome.LINKED_TRANSFER_FAILED, Outcome.EXCEEDS_CREDITS]
    assert await stage.notes() == {"declined": ""}
    assert await stage.claims() == {"key"}
    assert (await stage.ledger.balances([SHOP]))[SHOP].net_minor == 0


async def test_a_unit_whose_guard_does_not_hold_changes_nothing(stage: Stage) -> None:
    await opened(stage)
    unit = Unit((move(PAYER, SHOP, 5),), writes=(note("a"),), writes_if_refused=(note("b"),),
                guards=(claim("mine"), version_is("p", 7)))  # fmt: skip
    done = await stage.lane.submit(unit)
    assert done == UnitOutcome("conflict", guard_failed=1)
    assert await stage.notes() == {}
    assert await stage.claims() == set()
    assert (await stage.ledger.balances([SHOP]))[SHOP].net_minor == 0


async def test_a_key_is_claimed_once_however_many_try_at_once(stage: Stage) -> None:
    await opened(stage)
    units = [
        Unit((move(WORLD, SHOP, 1),), writes=(note(f"n{i}"),), guards=(claim("one"),)) for i in range(20)
    ]
    done = await asyncio.gather(*(stage.lane.submit(unit) for unit in units))
    assert [o.status for o in done] == ["committed"] + ["conflict"] * 19
    assert await stage.notes() == {"n0": ""}
    assert (await stage.ledger.balances([SHOP]))[SHOP].net_minor == 1


async def test_units_that_guard_one_row_see_each_other(stage: Stage) -> None:
    await opened(stage)
    steps = [
        Unit(writes=(bump("p", v + 1), note(f"step{v}")), guards=(version_is("p", v),)) for v in (1, 2, 3)
    ]
    stale = Unit(writes=(note("stale"),), guards=(version_is("p", 2),))
    done = await asyncio.gather(*(stage.lane.submit(unit) for unit in [*steps, stale]))
    assert [o.status for o in done] == ["committed", "committed", "committed", "conflict"]
    assert set(await stage.notes()) == {"step1", "step2", "step3"}


async def test_neighbours_of_a_conflict_and_of_a_refusal_are_committed(stage: Stage) -> None:
    await opened(stage)
    await stage.lane.submit(Unit(guards=(claim("taken"),)))
    units = [
        Unit((move(PAYER, SHOP, 30),), writes=(note("first"),), guards=(claim("k1"),)),
        Unit((move(PAYER, SHOP, 30),), writes=(note("second"),), guards=(claim("taken"),)),
        Unit((move(PAYER, SHOP, 500),), writes_if_refused=(note("third"),), guards=(claim("k3"),)),
        Unit((move(PAYER, SHOP, 70),), writes=(note("fourth"),), guards=(claim("k4"),)),
        Unit(writes=(note("fifth"),)),
    ]
    done = await asyncio.gather(*(stage.lane.submit(unit) for unit in units))
    assert [o.status for o in done] == ["committed", "conflict", "refused", "committed", "committed"]
    assert set(await stage.notes()) == {"first", "third", "fourth", "fifth"}
    assert await stage.claims() == {"taken", "k1", "k3", "k4"}


async def test_a_unit_posted_again_is_committed_again_without_moving_anything(stage: Stage) -> None:
    await opened(stage)
    unit = Unit((move(PAYER, SHOP, 60),))
    first, second = [await stage.lane.submit(unit) for _ in range(2)]
    assert (first.status, second.status) == ("committed", "committed")
    assert second.postings[0].outcome is Outcome.EXISTS
    assert (await stage.ledger.balances([SHOP]))[SHOP].net_minor == 60


async def test_a_unit_has_a_bound(stage: Stage) -> None:
    with pytest.raises(ChainTooLong):
        await stage.lane.submit(Unit(tuple(move(WORLD, SHOP, 1) for _ in range(17))))


async def test_a_unit_may_ask_for_the_balances_right_after_it(stage: Stage) -> None:
    """Each of many that arrive together is told what was there after its own transfers."""
    await opened(stage)
    units = [
        Unit((move(PAYER, SHOP, 10), move(SHOP, WORLD, 4)), balances=number % 2 == 0) for number in range(12)
    ]
    done = await asyncio.gather(*(stage.lane.submit(unit) for unit in units))
    assert [o.status for o in done] == ["committed"] * 10 + ["refused"] * 2
    for number, outcome in enumerate(done):
        if number % 2:
            assert outcome.balances == {}
            continue
        times = min(number + 1, 10)
        assert outcome.balances[PAYER].net_minor == 100 - 10 * times
        assert outcome.balances[SHOP].net_minor == 6 * times
        assert outcome.balances[WORLD].net_minor == 4 * times - 100


async def test_balances_in_the_answer_know_of_holds_and_of_accounts_that_are_not(stage: Stage) -> None:
    await opened(stage)
    hold = replace(move(PAYER, SHOP, 30), kind="pending")
    settle = replace(move(PAYER, SHOP, 20), kind="post_pending", pending_id=hold.id)
    nobody = AccountId(77)
    done = await asyncio.gather(
        *(stage.lane.submit(Unit((t,), balances=True)) for t in (hold, settle, move(PAYER, nobody, 1)))
    )
    assert [o.balances[PAYER] for o in done] == [
        Balance(0, 100, 30, 0), Balance(20, 100, 0, 0), Balance(20, 100, 0, 0)
    ]  # fmt: skip
    assert nobody not in done[2].balances
    assert done[2].status == "refused"


@pytest.fixture
async def books(emptied: Database) -> AsyncIterator[Stage]:
    """A ledger on PostgreSQL with accounts, and 100 on one of them."""
    async with on_postgres(emptied, StillClock()) as stage:
        await opened(stage)
        yield stage


def lane_of(stage: Stage) -> Lane:
    assert isinstance(stage.lane, Seat)
    assert stage.lane.lane is not None
    return stage.lane.lane


async def test_units_that_arrive_together_share_commits_and_keep_their_order(books: Stage) -> None:
    before = lane_of(books).committer.batches
    done = await asyncio.gather(*(books.lane.submit(Unit((move(PAYER, SHOP, 7),))) for _ in range(20)))
    assert [o.status for o in done] == ["committed"] * 14 + ["refused"] * 6
    assert lane_of(books).committer.batches - before <= 3


async def test_many_callers_claim_each_key_once_and_keep_the_rules_of_accounts(
    books: Stage, shared_dsn: str
) -> None:
    """Every key wanted twice, and money for 100 of 400: what stands is what was answered."""

    async def caller(number: int) -> list[str]:
        units = [
            Unit(
                (move(PAYER, SHOP, 1),),
                writes=(note(f"paid {key}"),),
                writes_if_refused=(note(f"declined {key}"),),
                guards=(claim(f"key {key}"),),
            )
            for key in range(number % 200, 400, 200)
        ]
        return [(await books.lane.submit(unit)).status for unit in units]

    found = [status for each in await asyncio.gather(*map(caller, range(400))) for status in each]
    assert [found.count(s) for s in ("committed", "refused", "conflict")] == [100, 300, 400]
    notes = await books.notes()
    assert sum(name.startswith("paid") for name in notes) == 100
    assert len(notes) == len(await books.claims()) == 400
    assert (await books.ledger.balances([SHOP]))[SHOP].net_minor == 100
    assert verify(shared_dsn).findings == []


async def test_a_unit_that_breaks_a_constraint_fails_alone(books: Stage) -> None:
    units = [
        Unit((move(PAYER, SHOP, 1),), writes=(note(f"w{i}", "forbidden" if i == 3 else ""),))
        for i in range(8)
    ]
    done = await asyncio.gather(*(books.lane.submit(unit) for unit in units), return_exceptions=True)
    assert isinstance(done[3], WriteRejected)
    others = [o for i, o in enumerate(done) if i != 3]
    assert all(isinstance(o, UnitOutcome) and o.status == "committed" for o in others)
    assert set(await books.notes()) == {f"w{i}" for i in range(8) if i != 3}
    assert (await books.ledger.balances([SHOP]))[SHOP].net_minor == 7


async def test_a_full_lane_turns_callers_away(books: Stage) -> None:
    waiting = [asyncio.ensure_future(books.lane.submit(Unit())) for _ in range(LANE_QUEUE_UNITS_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(LaneFull):
        await books.lane.submit(Unit())
    assert {o.status for o in await asyncio.gather(*waiting)} == {"committed"}


async def test_a_caller_who_gives_up_before_the_commit_leaves_nothing(books: Stage) -> None:
    task = asyncio.ensure_future(books.lane.submit(Unit((move(PAYER, SHOP, 60),))))
    await asyncio.sleep(0)
    task.cancel()
    assert (await books.lane.submit(Unit((move(PAYER, SHOP, 100),)))).status == "committed"


async def kill_backends(dsn: str, condition: str) -> int:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        done = await connection.execute(
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
            f"and pid <> pg_backend_pid() and {condition}".encode()
        )
        return done.rowcount


async def test_who_guards_what_one_guarded_that_gave_up_is_committed(books: Stage) -> None:
    under_way = asyncio.create_task(books.lane.submit(Unit(writes=(note("first"),))))
    await asyncio.sleep(0)
    gone = asyncio.create_task(books.lane.submit(Unit(writes=(note("gone"),), guards=(claim("key"),))))
    there = asyncio.create_task(books.lane.submit(Unit(writes=(note("there"),), guards=(claim("key"),))))
    await asyncio.sleep(0)
    gone.cancel()
    async with asyncio.timeout(5.0):
        done = await asyncio.gather(under_way, there)
    assert [o.status for o in done] == ["committed", "committed"]
    assert set(await books.notes()) == {"first", "there"}


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param("select from versions where name = 'p' for update", id="before the commit is sent"),
        pytest.param("select from ledger.head for update", id="with the commit sent"),
    ],
)
async def test_a_unit_whose_connection_is_lost_is_committed_once_by_the_next_writer(
    books: Stage, shared_dsn: str, lock: str
) -> None:
    """The lane's transaction waits for a lock when its server process is killed.

    Whether it happened is looked up, not guessed; since it did not, the unit is carried again.
    """
    epoch = books.lane.epoch if isinstance(books.lane, Seat) else 0
    async with await psycopg.AsyncConnection.connect(shared_dsn) as holder:
        await holder.execute(lock.encode())
        unit = Unit(
            (move(PAYER, SHOP, 60),), writes=(note("once"),), guards=(version_is("p", 1), claim("once"))
        )
        task = asyncio.ensure_future(books.lane.submit(unit))
        waits = "wait_event_type = 'Lock' and application_name like 'holdfast ledger writer%%'"
        while not await kill_backends(shared_dsn, waits):
            await asyncio.sleep(0.01)
    assert (await task).status == "committed"
    assert isinstance(books.lane, Seat)
    assert books.lane.epoch > epoch
    assert await books.notes() == {"once": ""}
    assert await books.claims() == {"once"}
    assert (await books.ledger.balances([SHOP]))[SHOP].net_minor == 60
    assert verify(shared_dsn).findings == []


async def test_nobody_waits_longer_than_asked_and_learns_what_is_known(books: Stage, shared_dsn: str) -> None:
    """One is under way when the database hangs, one waits behind it."""
    async with await psycopg.AsyncConnection.connect(shared_dsn) as holder:
        await holder.execute("select from ledger.head for update")
        first = asyncio.ensure_future(lane_of(books).submit(Unit((move(PAYER, SHOP, 60),)), 0.4))
        await asyncio.sleep(0.05)
        second = asyncio.ensure_future(lane_of(books).submit(Unit((move(PAYER, SHOP, 40),)), 0.4))
        answers = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(a) for a in answers] == [CommitUnknown, WriterAway]
    assert (await books.lane.submit(Unit((move(PAYER, SHOP, 1),)))).status == "committed"
    assert (await books.ledger.balances([SHOP]))[SHOP].net_minor == 61, "the first happened, the second not"


async def test_connections_killed_at_random_lose_and_double_nothing(books: Stage, shared_dsn: str) -> None:
    """Every answer is true: posted stands once, unavailable moved nothing, unknown is settled by asking."""
    sent: list[tuple[NewTransfer, str]] = []
    over = asyncio.Event()

    async def caller() -> None:
        while not over.is_set():
            t = move(WORLD, SHOP, 1)
            try:
                done = await books.lane.submit(Unit((t,), writes=(note(fresh("k")),)))
                sent.append((t, done.status))
            except OutcomeUnknown:
                sent.append((t, "unknown"))
            except Unavailable:
                sent.append((t, "unavailable"))
                await asyncio.sleep(0.005)

    callers = [asyncio.ensure_future(caller()) for _ in range(60)]
    killed = 0
    while killed < 12:
        before = len(sent)
        while len(sent) < before + 60:
            await asyncio.sleep(0.002)
        killed += await kill_backends(
            shared_dsn, "state <> 'idle' and application_name like 'holdfast ledger%%'"
        )
    over.set()
    await asyncio.gather(*callers)
    found = await books.ledger.find([t.id for t, _ in sent])
    for t, status in sent:
        if status != "unknown":
            assert (t.id in found) == (status == "committed")
    assert (await books.ledger.balances([SHOP]))[SHOP].net_minor == len(found)
    assert len(await books.notes()) == len(found)
    assert verify(shared_dsn).findings == []


async def test_a_database_that_is_away_is_unavailable() -> None:
    seat = Seat(Database("postgresql://nobody@127.0.0.1:1/none"))
    with pytest.raises(Unavailable):
        await seat.submit(Unit((move(PAYER, SHOP, 60),)), 0.3)
    await seat.close()


async def test_a_row_that_fits_no_column_fails_alone_and_the_writer_goes_on(books: Stage) -> None:
    epoch = books.lane.epoch if isinstance(books.lane, Seat) else 0
    odd = Unit((move(PAYER, SHOP, 1),), writes=(Write(NOTE, ("odd", 7)),))
    units = [odd, *(Unit((move(PAYER, SHOP, 1),), writes=(note(fresh("n")),)) for _ in range(5))]
    done = await asyncio.gather(*(books.lane.submit(unit) for unit in units), return_exceptions=True)
    assert isinstance(done[0], Broken)
    assert [o.status for o in done[1:] if isinstance(o, UnitOutcome)] == ["committed"] * 5
    assert isinstance(books.lane, Seat)
    assert books.lane.epoch == epoch


async def test_when_the_lane_breaks_off_everybody_is_answered(books: Stage, shared_dsn: str) -> None:
    """One list is under way, the next is made ready already, a third waits."""
    lane = lane_of(books)
    lists = [[Group((move(WORLD, SHOP, 1),)) for _ in range(BATCH_TRANSFERS_MAX)] for _ in range(3)]
    async with await psycopg.AsyncConnection.connect(shared_dsn) as holder:
        await holder.execute("select from ledger.head for update")
        waiting = [asyncio.ensure_future(lane.post(groups)) for groups in lists]
        while lane._ahead is None:
            await asyncio.sleep(0.01)
        assert lane._runner is not None
        lane._runner.cancel()
        answers = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5.0)
    assert [type(a) for a in answers] == [CommitUnknown, WriterAway, WriterAway]


async def test_what_nobody_foresaw_ends_the_lane_and_the_next_writer_serves(
    books: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        monkeypatch.undo()
        raise KeyError("nobody foresaw it")

    seat = books.lane
    assert isinstance(seat, Seat)
    epoch = seat.epoch
    monkeypatch.setattr(Lane, "_take", broken)
    async with asyncio.timeout(8.0):
        done = await books.lane.submit(Unit(writes=(note("there"),)))
    assert done.status == "committed"
    assert seat.epoch > epoch
    assert await books.notes() == {"there": ""}
