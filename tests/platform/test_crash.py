"""The embedded database survives kill -9 of everything: nothing acknowledged is lost or done twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from holdfast.platform import migrate
from holdfast.platform.postgres import DataFolderUnusable, EmbeddedPostgres
from tests.support.waiting import until

PROGRAM = """
import asyncio, json, os, sys, uuid
from datetime import UTC, datetime
from pathlib import Path
from holdfast.base.ids import EventId
from holdfast.platform import outbox
from holdfast.platform.db import Database
from holdfast.platform.postgres import DataFolderUnusable, EmbeddedPostgres

folder, acknowledged = Path(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
server = EmbeddedPostgres(folder)
server.start()
print(json.dumps({"postgres": server.pid}), flush=True)

async def write(database):
    while True:
        now = datetime.now(UTC)
        it = outbox.Event(EventId(uuid.uuid4()), "payment.created", None, "pay_1", {}, now)
        async with database.transaction() as connection:
            await connection.execute(outbox.ADD.sql.encode(), [[value] for value in outbox.announce(it).row])
        os.write(acknowledged, f"{it.id}\\n".encode())

async def read(database):
    async def follow(connection, events):
        await connection.execute(
            "insert into followed select unnest(%s::uuid[])", ([event.id for event in events],))
    while True:
        await outbox.relay(database, "toy", follow, now=datetime.now(UTC))
        await asyncio.sleep(0.01)

async def main():
    database = Database(server.dsn("holdfast"))
    await database.open()
    await asyncio.gather(*(write(database) for _ in range(8)), *(read(database) for _ in range(2)))

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for a database of its own, with the schema and a table of what was followed.

    Not under `tmp_path`: that is closed to the user who runs the database when root runs the tests.
    """
    outer = Path(tempfile.mkdtemp(prefix="holdfast-crash-"))
    outer.chmod(0o755)
    place = outer / "pg"
    server = EmbeddedPostgres(place)
    server.start()
    dsn = server.create_database()
    migrate.apply(dsn, migrate.shipped())
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create table followed (id uuid)")
    server.stop()
    yield place
    shutil.rmtree(outer, ignore_errors=True)


def one_cycle(folder: Path, acknowledged: Path, chance: random.Random) -> None:
    before = acknowledged.stat().st_size if acknowledged.exists() else 0
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(acknowledged)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        postgres = json.loads(program.stdout.readline())["postgres"]
        until(lambda: acknowledged.exists() and acknowledged.stat().st_size > before + 1_000, "it writes")
        time.sleep(chance.uniform(0.0, 0.5))  # the moment of the crash: anything goes
        victims = [(os.killpg, postgres), (os.kill, program.pid)]
        chance.shuffle(victims)
        for kill, victim in victims:
            kill(victim, signal.SIGKILL)
    finally:
        program.kill()
        program.wait()
        assert program.stdout is not None
        program.stdout.close()


def check(folder: Path, acknowledged: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    try:
        with psycopg.connect(server.dsn("holdfast"), autocommit=True) as connection:
            stored = {str(row[0]) for row in connection.execute("select id from outbox.events")}
            followed = [str(row[0]) for row in connection.execute("select id from followed")]
            told = set(acknowledged.read_text().split())
            assert told <= stored, f"{len(told - stored)} acknowledged events are lost"
            assert len(followed) == len(set(followed)), "an event was followed twice"
            assert set(followed) <= stored, "an event was followed that does not exist"
    finally:
        server.stop()


def survive(folder: Path, acknowledged: Path, cycles: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(cycles):
        one_cycle(folder, acknowledged, chance)
        check(folder, acknowledged)
    assert len(acknowledged.read_text().split()) > 20 * cycles


def test_nothing_acknowledged_is_lost_over_five_crashes_of_everything(folder: Path, tmp_path: Path) -> None:
    survive(folder, tmp_path / "acknowledged", 5)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_nothing_acknowledged_is_lost_over_fifty_crashes_of_everything(folder: Path, tmp_path: Path) -> None:
    survive(folder, tmp_path / "acknowledged", 50)


def test_a_file_left_behind_by_a_killed_server_is_not_taken_for_a_running_one(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    server.kill()
    assert (folder / "data" / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
    again = EmbeddedPostgres(folder)
    again.start()
    with psycopg.connect(again.dsn("holdfast")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    again.stop()


def test_the_database_promises_durability_and_lets_nobody_in_without_the_password(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    try:
        owner_dsn = server.create_database()
        with psycopg.connect(owner_dsn, autocommit=True) as connection:
            role = connection.execute(
                "select current_user, rolsuper from pg_roles where rolname = current_user"
            )
            assert role.fetchone() == ("holdfast", False)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("copy (select 1) to program 'true'")
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                assert connection.execute(f"show {setting}".encode()).fetchone() == ("on",)
            assert connection.execute("show data_checksums").fetchone() == ("on",)
            assert connection.execute("show listen_addresses").fetchone() == ("",)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"host={folder} user=postgres dbname=holdfast password=wrong")
        assert folder.stat().st_mode & 0o077 == 0
        assert (folder / "password").stat().st_mode & 0o077 == 0
        assert server.pid is not None
        owner = Path(f"/proc/{server.pid}").stat().st_uid
        assert owner != 0, "the database never runs as root"
    finally:
        server.stop()


def test_a_folder_of_another_postgresql_is_refused_with_the_remedy(folder: Path) -> None:
    (folder / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(
        DataFolderUnusable, match=r"belongs to PostgreSQL 17; this Holdfast brings 18"
    ) as refused:
        EmbeddedPostgres(folder).start()
    assert "--data" in str(refused.value)
