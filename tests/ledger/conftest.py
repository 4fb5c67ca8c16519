"""Both ledgers and both lanes, so that one test speaks for all implementations of the port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psycopg
import pytest

from holdfast.domains.ledger.memory import MemoryLane, MemoryLedger
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.platform.db import Database
from holdfast.platform.postgres import EmbeddedPostgres
from holdfast.platform.unit import Guard, Statement, Write
from tests.ledger.workload import StillClock

NOTE = Statement(
    "test.note",
    "insert into notes (name, body) select * from unnest(%b::text[], %b::text[])",
    ("text", "text"),
    rank=50,
)
CLAIM = Statement(
    "test.claim",
    """with u as (select * from unnest(%b::text[]) with ordinality as u (name, position)),
    claimed as (insert into claims (name) select name from u order by name
                on conflict do nothing returning name)
    select u.position from u join claimed using (name)""",
    ("text",),
    sure="insert into claims (name) select name from unnest(%b::text[]) as u (name) order by name",
)
VERSION = Statement(
    "test.version",
    """select u.position from unnest(%b::text[], %b::bigint[]) with ordinality as u (name, version, position)
    join versions v on v.name = u.name and v.version = u.version order by u.name for update of v""",
    ("text", "bigint"),
)
BUMP = Statement(
    "test.bump",
    """update versions v set version = u.version
    from unnest(%b::text[], %b::bigint[]) as u (name, version) where v.name = u.name""",
    ("text", "bigint"),
)


def note(name: str, body: str = "") -> Write:
    return Write(NOTE, (name, body))


def claim(name: str) -> Guard:
    return Guard(CLAIM, (name,), key=("claim", name), claims=True)


def version_is(name: str, version: int) -> Guard:
    return Guard(VERSION, (name, version), key=("version", name))


def bump(name: str, version: int) -> Write:
    return Write(BUMP, (name, version))


@dataclass
class Side:
    """Rows of another domain, as the memory lane's handlers keep them."""

    notes: dict[str, str] = field(default_factory=dict)
    claims: set[str] = field(default_factory=set)
    versions: dict[str, int] = field(default_factory=lambda: {"p": 1, "q": 1})

    def add_note(self, row: tuple[object, ...]) -> None:
        self.notes[str(row[0])] = str(row[1])

    def claim(self, row: tuple[object, ...]) -> bool:
        if str(row[0]) in self.claims:
            return False
        self.claims.add(str(row[0]))
        return True

    def version_is(self, row: tuple[object, ...]) -> bool:
        return self.versions.get(str(row[0])) == row[1]

    def bump(self, row: tuple[object, ...]) -> None:
        self.versions[str(row[0])] = int(str(row[1]))


@dataclass
class Stage:
    """A ledger with its lane, and the rows of another domain beside it."""

    ledger: PostgresLedger | MemoryLedger
    lane: Seat | MemoryLane
    clock: StillClock
    side: Side
    database: Database | None

    async def notes(self) -> dict[str, str]:
        if self.database is None:
            return self.side.notes
        async with self.database.connection() as connection:
            rows = await (await connection.execute("select name, body from notes")).fetchall()
            return dict(rows)

    async def claims(self) -> set[str]:
        if self.database is None:
            return self.side.claims
        async with self.database.connection() as connection:
            return {
                name for (name,) in await (await connection.execute("select name from claims")).fetchall()
            }


TABLES = """
create table if not exists notes (name text primary key, body text not null check (body <> 'forbidden'));
create table if not exists claims (name text primary key);
create table if not exists versions (name text primary key, version bigint not null);"""
EMPTY = """
do $$ declare segment integer; begin
    for segment in select number from ledger.segments loop
        execute format('drop table ledger.transfers_%s', lpad(segment::text, 6, '0'));
    end loop;
end $$;
truncate notes, claims, versions, ledger.accounts, ledger.limits, ledger.segments, ledger.refusals,
    ledger.batches, ledger.marks, ledger.snapshots, ledger.snapshot_parts,
    ledger.tree_nodes, ledger.archives, ledger.archived;
update ledger.head set commits = 0, batch = 0, seq = -1, at = '1970-01-01 00:00:00+00', hash = '';
insert into versions values ('p', 1), ('q', 1)"""


@pytest.fixture(scope="session")
def shared_dsn(postgres: EmbeddedPostgres, template: str) -> str:
    """One database for tests that need an empty ledger and leave nothing running; emptied for each."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"create database ledger_shared template {template}".encode())
    with psycopg.connect(postgres.dsn("ledger_shared"), autocommit=True) as connection:
        connection.execute(TABLES)
    return postgres.dsn("ledger_shared")


@pytest.fixture
async def emptied(shared_dsn: str) -> AsyncIterator[Database]:
    """A pool on the shared database, emptied."""
    with psycopg.connect(shared_dsn, autocommit=True) as connection:
        connection.execute(EMPTY)
    database = Database(shared_dsn)
    await database.open()
    yield database
    await database.close()


@asynccontextmanager
async def on_postgres(database: Database, clock: StillClock) -> AsyncIterator[Stage]:
    seat = Seat(database, clock)
    try:
        yield Stage(PostgresLedger(database, seat), seat, clock, Side(), database)
    finally:
        await seat.close()


def in_memory(clock: StillClock) -> Stage:
    ledger, side = MemoryLedger(clock, history=True), Side()
    lane = MemoryLane(ledger, clock)
    lane.register("test.note", side.add_note)
    lane.register("test.bump", side.bump)
    lane.register_guard("test.claim", side.claim)
    lane.register_guard("test.version", side.version_is)
    return Stage(ledger, lane, clock, side, None)


@pytest.fixture
async def postgresql(emptied: Database) -> AsyncIterator[Stage]:
    async with on_postgres(emptied, StillClock()) as made:
        yield made


@pytest.fixture
def memory() -> Stage:
    return in_memory(StillClock())


@pytest.fixture(params=["memory", "postgresql"])
def stage(request: pytest.FixtureRequest) -> Stage:
    made: Stage = request.getfixturevalue(request.param)
    return made
