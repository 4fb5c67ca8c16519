"""Who writes the ledger: one at a time, another soon after, and never an old one again.

Real processes post through their seats; the one that writes is killed or stopped. Each notes what it was
answered in a file, as it is answered.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from holdfast.base.clock import SystemClock
from holdfast.base.errors import OutcomeUnknown, Unavailable
from holdfast.base.ids import AccountId, IdSource, TransferId
from holdfast.domains.ledger.model import Group, NewAccount, NewTransfer, Outcome
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.ledger.store import seats
from holdfast.domains.ledger.verify import verify
from holdfast.domains.ledger.writer import seat as seat_module
from holdfast.platform.db import Database, DatabaseUnavailable
from tests.support.waiting import until_async

WORLD, SHOP = AccountId(1), AccountId(2)
SERVES_WITHIN_S = 8.0
"""Two seconds where nothing else runs, as `make bench-ledger` measures it; tests share the machine."""
CALLERS = 8


def post_for_ever(dsn: str, target: str) -> None:
    """Post single transfers, and note each answer with the time when it came."""

    async def run() -> None:
        database = Database(dsn, connections_min=1, connections_max=2)
        await database.open()
        seat, ids = Seat(database), IdSource(lambda: int(time.time() * 1000))
        with Path(target).open("a", buffering=1) as said:

            async def caller() -> None:
                while True:
                    t = NewTransfer(TransferId(ids.new()), WORLD, SHOP, "CNY", 1)
                    try:
                        [posting] = await seat.post([Group((t,))], 15.0)
                        answer = "posted" if posting.outcome is Outcome.POSTED else posting.outcome.name
                    except OutcomeUnknown:
                        answer = "unknown"
                    except Unavailable:
                        answer = "away"
                    said.write(f"{time.monotonic()} {t.id} {answer} {seat.epoch}\n")

            await asyncio.gather(*(caller() for _ in range(CALLERS)))

    asyncio.run(run())


@dataclass
class Poster:
    process: BaseProcess
    file: Path

    def said(self) -> list[tuple[float, UUID, str, int]]:
        if not self.file.exists():
            return []
        lines = [line.split() for line in self.file.read_text().splitlines()]
        return [(float(at), UUID(i), answer, int(epoch)) for at, i, answer, epoch in filter(_whole, lines)]

    @property
    def writes(self) -> bool:
        said = self.said()
        return bool(said and said[-1][3])


def _whole(line: list[str]) -> bool:
    return len(line) == 4


@dataclass
class Machines:
    dsn: str
    posters: list[Poster]

    def writer(self) -> Poster:
        wait_for(lambda: sum(p.writes for p in self.posters) == 1)
        return next(p for p in self.posters if p.writes)

    def another_than(self, poster: Poster) -> Poster:
        return next(p for p in self.posters if p is not poster)

    def epoch(self) -> int:
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute("select epoch from ledger.head").fetchone()
        assert row is not None
        return int(row[0])


def wait_for(condition: Callable[[], object], within_s: float = 60.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.02)


@pytest.fixture
def machines(dsn: str, tmp_path: Path) -> Machines:
    async def open_accounts() -> None:
        database = Database(dsn)
        await database.open()
        seat = Seat(database, SystemClock())
        await PostgresLedger(database, seat).open_accounts(
            [NewAccount(WORLD, "world", "CNY"), NewAccount(SHOP, "shop", "CNY")]
        )
        await seat.close()
        await database.close()

    with asyncio.Runner() as runner:
        runner.run(open_accounts())
    context = multiprocessing.get_context("spawn")
    made = Machines(dsn, [])
    for name in ("one", "other"):
        file = tmp_path / name
        process = context.Process(target=post_for_ever, args=(dsn, str(file)), daemon=True)
        process.start()
        made.posters.append(Poster(process, file))
    wait_for(lambda: all(len(p.said()) > 50 for p in made.posters))
    return made


def stop(machines: Machines) -> None:
    for poster in machines.posters:
        if poster.process.pid:
            os.kill(poster.process.pid, signal.SIGCONT)
        poster.process.kill()
        poster.process.join(10)


def nothing_is_lost_or_doubled(machines: Machines) -> None:
    stop(machines)
    said = [line for p in machines.posters for line in p.said()]
    with psycopg.connect(machines.dsn) as connection:
        stored = [row[0] for row in connection.execute("select id from ledger.transfers")]
    assert len(stored) == len(set(stored))
    assert {i for _, i, answer, _ in said if answer == "posted"} <= set(stored)
    assert {i for _, i, answer, _ in said if answer == "away"}.isdisjoint(stored)
    assert {answer for _, _, answer, _ in said} <= {"posted", "unknown", "away", "EXISTS"}
    assert verify(machines.dsn).findings == []


def posted_since(poster: Poster, moment: float, count: int) -> bool:
    return sum(at > moment and answer == "posted" for at, _, answer, _ in poster.said()) > count


def longest_silence_s(poster: Poster, since: float) -> float:
    times = [since, *(at for at, _, answer, _ in poster.said() if at > since and answer == "posted")]
    assert len(times) > 50
    return max(later - earlier for earlier, later in itertools.pairwise(times))


def test_a_writer_that_is_killed_is_followed(machines: Machines) -> None:
    writer, epoch = machines.writer(), machines.epoch()
    other = machines.another_than(writer)
    killed = time.monotonic()
    writer.process.kill()
    wait_for(partial(posted_since, other, killed + 2.0, 60))
    silence = longest_silence_s(other, killed)
    print(f"served again after {silence:.2f} s")
    assert silence < SERVES_WITHIN_S
    assert machines.epoch() > epoch
    nothing_is_lost_or_doubled(machines)


def test_a_writer_that_hangs_is_followed_and_never_commits_again(machines: Machines) -> None:
    writer, epoch = machines.writer(), machines.epoch()
    other = machines.another_than(writer)
    assert writer.process.pid is not None
    stopped = time.monotonic()
    os.kill(writer.process.pid, signal.SIGSTOP)
    wait_for(partial(posted_since, other, stopped + 2.0, 60))
    assert longest_silence_s(other, stopped) < SERVES_WITHIN_S
    assert machines.epoch() > epoch
    os.kill(writer.process.pid, signal.SIGCONT)
    continued = time.monotonic()
    wait_for(
        lambda: len([1 for at, _, answer, _ in writer.said() if at > continued and answer == "posted"]) > 50
    )
    said = [line for line in writer.said() if line[0] > continued and line[2] == "posted"]
    old = [i for _, i, _, wrote in said if wrote == epoch]
    assert len(old) <= CALLERS, "only what had been committed before it was stopped"
    nothing_is_lost_or_doubled(machines)


def test_a_writer_that_is_cut_off_from_the_database_is_followed(machines: Machines) -> None:
    """Its sessions are ended, again and again, while the other's are left alone."""
    epoch = machines.epoch()
    before = machines.writer()
    with psycopg.connect(machines.dsn, autocommit=True) as connection:
        for _ in range(20):
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s",
                (seats.session_name(epoch),),
            )
            time.sleep(0.02)
    cut = time.monotonic()
    for poster in machines.posters:
        wait_for(partial(posted_since, poster, cut, 50))
    assert machines.epoch() > epoch
    assert before.process.is_alive()
    nothing_is_lost_or_doubled(machines)


async def test_a_writer_that_others_cannot_reach_yet_serves_its_own_process_and_goes_on_trying(
    dsn: str, tmp_path: Path
) -> None:
    folder = tmp_path / "open to all"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    database = Database(dsn)
    await database.open()
    writer, other = Seat(database, folder=folder), Seat(database)
    await writer.post([], 10.0)
    waits = asyncio.ensure_future(other.post([], 20.0))
    await writer.post([], 10.0)
    folder.chmod(0o700)
    await waits
    assert writer.epoch or other.epoch
    for seat in (other, writer):
        await seat.close()
    await database.close()


async def test_a_database_that_is_away_is_logged_once_and_not_at_each_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(seat_module, "_log", SimpleNamespace(warning=lambda what, **_: said.append(what)))
    monkeypatch.setattr(seat_module, "WRITER_RENEW_S", 0.01)
    tries = 0

    class Away:
        async def dedicated(self, *_: str) -> object:
            nonlocal tries
            tries += 1
            raise DatabaseUnavailable

    away: Any = Away()
    seat = Seat(away)
    seat.open()

    async def tried() -> bool:
        return tries >= 5

    await until_async(tried, "it was tried again and again", every_s=0.01)
    assert said == ["the ledger's seat waits"]
    seat._silent_until = 0.0
    await until_async(lambda: _longer(said, 1), "and is said again when it goes on for long", every_s=0.01)
    await seat.close()


async def _longer(said: list[str], than: int) -> bool:
    return len(said) > than
