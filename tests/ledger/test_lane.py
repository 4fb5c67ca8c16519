"""What the commit lane promises, on both lanes; and what only the one on PostgreSQL has to."""

from __future__ import annotations

import asyncio
from itertools import count

import psycopg
import pytest

from holdfast.base.errors import OutcomeUnknown, Unavailable
from holdfast.base.limits import LANE_QUEUE_UNITS_MAX
from holdfast.domains.ledger.errors import ChainTooLong, CommitUnknown, LaneFull, WriteRejected
from holdfast.domains.ledger.model import NewAccount, NewTransfer, Outcome, Unit, UnitOutcome
from holdfast.domains.ledger.operations import GroupCommitLane, PostgresLedger
from holdfast.domains.ledger.verify import verify
from holdfast.platform.db import Database
from tests.ledger.conftest import Stage, bump, claim, note, on_postgres, version_is
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


async def test_units_that_arrive_together_share_commits_and_keep_their_order(emptied: Database) -> None:
    stage = on_postgres(emptied, StillClock())
    await opened(stage)
    lane = GroupCommitLane(emptied, stage.clock)
    amounts = [7] * 20
    done = await asyncio.gather(*(lane.submit(Unit((move(PAYER, SHOP, a),))) for a in amounts))
    assert [o.status for o in done] == ["committed"] * 14 + ["refused"] * 6
    assert lane.batches <= 3


async def test_commits_that_overlap_claim_each_key_once_and_keep_the_rules_of_accounts(
    emptied: Database, shared_dsn: str
) -> None:
    """Three at a time, every key wanted twice, and money for 100 of 400: what stands is what was answered."""
    stage = on_postgres(emptied, StillClock(), commits_max=3)
    await opened(stage)

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
        return [(await stage.lane.submit(unit)).status for unit in units]

    found = [status for each in await asyncio.gather(*map(caller, range(400))) for status in each]
    assert [found.count(s) for s in ("committed", "refused", "conflict")] == [100, 300, 400]
    notes = await stage.notes()
    assert sum(name.startswith("paid") for name in notes) == 100
    assert len(notes) == len(await stage.claims()) == 400
    assert (await stage.ledger.balances([SHOP]))[SHOP].net_minor == 100
    assert verify(shared_dsn).findings == []


async def test_a_unit_that_breaks_a_constraint_fails_alone(emptied: Database) -> None:
    stage = on_postgres(emptied, StillClock())
    await opened(stage)
    units = [
        Unit((move(PAYER, SHOP, 1),), writes=(note(f"w{i}", "forbidden" if i == 3 else ""),))
        for i in range(8)
    ]
    done = await asyncio.gather(*(stage.lane.submit(unit) for unit in units), return_exceptions=True)
    assert isinstance(done[3], WriteRejected)
    others = [o for i, o in enumerate(done) if i != 3]
    assert all(isinstance(o, UnitOutcome) and o.status == "committed" for o in others)
    assert set(await stage.notes()) == {f"w{i}" for i in range(8) if i != 3}
    assert (await stage.ledger.balances([SHOP]))[SHOP].net_minor == 7


async def test_a_full_lane_turns_callers_away(emptied: Database) -> None:
    lane = GroupCommitLane(emptied, StillClock())
    waiting = [asyncio.ensure_future(lane.submit(Unit())) for _ in range(LANE_QUEUE_UNITS_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(LaneFull):
        await lane.submit(Unit())
    assert {o.status for o in await asyncio.gather(*waiting)} == {"committed"}


async def test_a_caller_who_gives_up_before_the_commit_leaves_nothing(emptied: Database) -> None:
    stage = on_postgres(emptied, StillClock())
    await opened(stage)
    task = asyncio.ensure_future(stage.lane.submit(Unit((move(PAYER, SHOP, 60),))))
    await asyncio.sleep(0)
    task.cancel()
    assert (await stage.lane.submit(Unit((move(PAYER, SHOP, 100),)))).status == "committed"


async def kill_backends(dsn: str, condition: str) -> int:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        done = await connection.execute(
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
            f"and pid <> pg_backend_pid() and {condition}".encode()
        )
        return done.rowcount


async def test_a_connection_lost_before_the_commit_moves_nothing(emptied: Database, shared_dsn: str) -> None:
    """The lane's transaction, checking a guard first, waits for a lock when its server process is killed."""
    stage = on_postgres(emptied, StillClock())
    await opened(stage)
    async with await psycopg.AsyncConnection.connect(shared_dsn) as holder:
        await holder.execute("select from ledger.balances where number = 2 for update")
        task = asyncio.ensure_future(
            stage.lane.submit(
                Unit(
                    (move(PAYER, SHOP, 60),),
                    writes=(note("lost"),),
                    guards=(version_is("p", 1), claim("lost")),
                )
            )
        )
        while not await kill_backends(shared_dsn, "wait_event_type = 'Lock'"):
            await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            await task
    assert await stage.notes() == {}
    assert await stage.claims() == set()
    assert (await stage.ledger.balances([SHOP]))[SHOP].net_minor == 0
    assert (await stage.lane.submit(Unit((move(PAYER, SHOP, 60),)))).status == "committed"


async def test_a_connection_lost_with_the_commit_sent_is_found_out(
    emptied: Database, shared_dsn: str
) -> None:
    """A batch without guards, or whose guards raise, is sent with its commit in one exchange.

    Whether it happened is looked up, not guessed.
    """
    stage = on_postgres(emptied, StillClock())
    await opened(stage)
    async with await psycopg.AsyncConnection.connect(shared_dsn) as holder:
        await holder.execute("select from ledger.balances where number = 2 for update")
        task = asyncio.ensure_future(
            stage.lane.submit(Unit((move(PAYER, SHOP, 60),), guards=(claim("lost"),)))
        )
        while not await kill_backends(shared_dsn, "wait_event_type = 'Lock'"):
            await asyncio.sleep(0.01)
    with pytest.raises(Unavailable):
        await task
    assert await stage.claims() == set()
    assert (await stage.ledger.balances([SHOP]))[SHOP].net_minor == 0


async def test_a_lost_commit_without_transfers_is_unknown_not_failed(
    emptied: Database, shared_dsn: str
) -> None:
    stage = on_postgres(emptied, StillClock())
    async with await psycopg.AsyncConnection.connect(shared_dsn) as holder:
        await holder.execute("insert into notes values ('n', '')")
        task = asyncio.ensure_future(stage.lane.submit(Unit(writes=(note("n"),))))
        while not await kill_backends(shared_dsn, "wait_event_type = 'Lock'"):
            await asyncio.sleep(0.01)
        with pytest.raises(CommitUnknown):
            await task


@pytest.mark.parametrize(("commits_max", "callers_count"), [(1, 8), (3, 60)])
async def test_connections_killed_at_random_lose_and_double_nothing(
    emptied: Database, shared_dsn: str, commits_max: int, callers_count: int
) -> None:
    """Every answer is true: posted stands once, unavailable moved nothing, unknown is settled by asking."""
    stage = on_postgres(emptied, StillClock(), commits_max=commits_max)
    await opened(stage)
    sent: list[tuple[NewTransfer, str]] = []
    over = asyncio.Event()

    async def caller() -> None:
        while not over.is_set():
            t = move(WORLD, SHOP, 1)
            try:
                done = await stage.lane.submit(Unit((t,), writes=(note(fresh("k")),)))
                sent.append((t, done.status))
            except OutcomeUnknown:
                sent.append((t, "unknown"))
            except Unavailable:
                sent.append((t, "unavailable"))
                await asyncio.sleep(0.005)

    callers = [asyncio.ensure_future(caller()) for _ in range(callers_count)]
    killed = 0
    while killed < 12:
        before = len(sent)
        while len(sent) < before + 40:
            await asyncio.sleep(0.002)
        killed += await kill_backends(shared_dsn, "state <> 'idle'")
    over.set()
    await asyncio.gather(*callers)
    found = await PostgresLedger(emptied, stage.clock).find([t.id for t, _ in sent])
    for t, status in sent:
        if status != "unknown":
            assert (t.id in found) == (status == "committed")
    assert (await stage.ledger.balances([SHOP]))[SHOP].net_minor == len(found)
    assert len(await stage.notes()) == len(found)
    assert verify(shared_dsn).findings == []


async def test_a_database_that_is_away_is_unavailable() -> None:
    lane = GroupCommitLane(Database("postgresql://nobody@127.0.0.1:1/none"))
    with pytest.raises(Unavailable):
        await lane.submit(Unit((move(PAYER, SHOP, 60),)))
