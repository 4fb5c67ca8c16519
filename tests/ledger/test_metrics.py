"""What the ledger tells Prometheus."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from holdfast.base.limits import LANE_QUEUE_UNITS_MAX
from holdfast.domains.ledger.errors import LaneFull, WriterAway
from holdfast.domains.ledger.model import Unit
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.ledger.writer import behind
from holdfast.platform import metrics
from holdfast.platform.db import Database
from tests.ledger.conftest import on_postgres
from tests.ledger.test_posting import PAYER, SHOP, WORLD, move, opened
from tests.ledger.workload import StillClock
from tests.support.waiting import until_async

WRITERS = ("writer", "queue_units", "accounts", "holds_open", "segments", "snapshot_lag_transfers")


def told(name: str, **labels: str) -> float:
    """What `/metrics` says; 0 for a label that was not seen yet."""
    return metrics.REGISTRY.get_sample_value(f"holdfast_ledger_{name}", labels) or 0.0


async def test_the_writer_tells_what_it_does_and_what_it_holds(emptied: Database) -> None:
    before = {
        name: told(name) for name in ("batch_transfers_sum", "batch_transfers_count", "elections_total")
    }
    small, seconds = told("batch_transfers_bucket", le="1.0"), told("commit_seconds_count")
    async with on_postgres(emptied, StillClock()) as stage:
        await opened(stage)
        hold = replace(move(WORLD, SHOP, 5), kind="pending")
        await stage.ledger.post([hold, *(move(WORLD, SHOP, 1) for _ in range(6))])
        await stage.ledger.post([move(WORLD, SHOP, 1)])
        assert isinstance(stage.lane, Seat)
        assert told("writer") == 1
        assert told("epoch") == stage.lane.epoch > 0
        assert told("elections_total") == before["elections_total"] + 1
        made = told("batch_transfers_sum") - before["batch_transfers_sum"]
        batches = told("batch_transfers_count") - before["batch_transfers_count"]
        assert (made, batches) == (8, 2), "seven, then one"
        assert told("batch_transfers_bucket", le="1.0") == small + 1
        assert told("batch_transfers_bucket", le="+Inf") == told("batch_transfers_count")
        assert told("commit_seconds_count") >= seconds + 2
        assert told("commit_seconds_sum") > 0
        assert told("holds_open") == 1
        assert told("accounts") >= 3
        assert told("segments") >= 1
        assert told("snapshot_lag_transfers") == 8
        assert told("snapshot_age_seconds") == told("index_lag_segments") == told("queue_units") == 0
    assert [told(name) for name in WRITERS] == [0] * len(WRITERS), "who does not write has nothing of it"


async def test_the_age_of_the_snapshot_is_told_also_by_the_next_writer(
    emptied: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind, "SNAPSHOT_TRANSFERS", 10)
    clock = StillClock()

    async def written() -> bool:
        return told("snapshot_lag_transfers") == 2

    async with on_postgres(emptied, clock) as stage:
        await opened(stage)
        await stage.ledger.post([move(WORLD, SHOP, 1) for _ in range(20)])
        await stage.ledger.post([move(WORLD, SHOP, 1) for _ in range(2)])
        await until_async(written, "the snapshot is written")
    async with on_postgres(emptied, clock) as stage:
        clock.at += timedelta(seconds=90)
        await stage.ledger.post([move(WORLD, SHOP, 1)])
        assert told("snapshot_lag_transfers") == 3
        assert told("snapshot_age_seconds") == 90


async def test_units_turned_away_by_a_full_lane_are_counted(emptied: Database) -> None:
    async with on_postgres(emptied, StillClock()) as stage:
        await opened(stage)
        before = told("queue_full_total")
        waiting = [asyncio.ensure_future(stage.lane.submit(Unit())) for _ in range(LANE_QUEUE_UNITS_MAX)]
        await asyncio.sleep(0)
        assert told("queue_units") == LANE_QUEUE_UNITS_MAX
        with pytest.raises(LaneFull):
            await stage.lane.submit(Unit())
        assert told("queue_full_total") == before + 1
        await asyncio.gather(*waiting)
        assert told("queue_units") == 0


async def test_forwarded_calls_are_counted_and_those_that_failed_by_why(emptied: Database) -> None:
    async with on_postgres(emptied, StillClock()) as stage:
        await opened(stage)
        assert isinstance(stage.lane, Seat)
        other = Seat(emptied, StillClock())
        ledger = PostgresLedger(emptied, other)
        forwarded, failed = told("forwarded_total"), told("forwards_failed_total", code="writer_away")
        await ledger.post([move(WORLD, SHOP, 1)])
        await ledger.post([move(PAYER, SHOP, 10**6)])
        assert told("forwarded_total") == forwarded + 2
        assert told("forwards_failed_total", code="writer_away") == failed, "a refusal is no failure"
        assert told("writer") == 0, "the seat that was opened last is the one that is told of"
        assert told("epoch") == stage.lane.epoch
        await stage.lane.close()
        door = other._door
        assert door is not None
        with pytest.raises(WriterAway):
            await door.post([], 1.0)
        assert told("forwards_failed_total", code="writer_away") > failed
        await other.close()


def test_what_is_counted_for_each_batch_costs_less_than_two_microseconds() -> None:
    started, times = time.perf_counter(), 20_000
    for _ in range(times):
        metrics.LEDGER_COMMIT_S.observe(0.004)
        metrics.LEDGER_BATCH.observe(400)
    assert (time.perf_counter() - started) / times < 10e-6, "with room for a machine that does other things"
