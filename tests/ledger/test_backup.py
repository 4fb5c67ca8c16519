"""A backup made while money moves comes back whole, proves itself, and is refused when it is not whole."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from holdfast.base.clock import SystemClock
from holdfast.base.ids import TransferId
from holdfast.domains.ledger import queries
from holdfast.domains.ledger.model import Outcome, Posting
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.ledger.verify import verify
from holdfast.platform import migrate
from holdfast.platform.backup import manifest as manifests
from holdfast.platform.db import Database
from holdfast.platform.postgres import EmbeddedPostgres, database_dsn
from holdfast.platform.processes import hold_data_folder
from tests.ledger.workload import Workload, accounts
from tests.support.waiting import until

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("HOLDFAST_")}
ADDED_UP = """
select v.account,
       coalesce(sum(v.posted) filter (where v.debit), 0)::bigint,
       coalesce(sum(v.posted) filter (where not v.debit), 0)::bigint,
       coalesce(sum(v.pending) filter (where v.debit), 0)::bigint,
       coalesce(sum(v.pending) filter (where not v.debit), 0)::bigint
from (
    select v.account, v.debit, case when t.kind in (0, 2) then t.amount else 0 end as posted,
           case t.kind when 0 then 0 when 1 then t.amount else -t.held end as pending
    from ledger.transfers t
    cross join lateral (values (t.debit, true), (t.credit, false)) as v (account, debit)
) v group by v.account"""


def run(*arguments: object, dsn: str = "") -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "backup", *map(str, arguments)],
        env=ENVIRONMENT | ({"HOLDFAST_DSN": dsn} if dsn else {}),
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@dataclass(frozen=True)
class Place:
    """A running database over `data`, with a backup of it made under traffic, and what was said of it."""

    folder: Path
    data: Path
    backup: Path
    said: str
    acknowledged: dict[TransferId, Posting]


async def _traffic(dsn: str, backup: Callable[[], tuple[int, str]]) -> tuple[str, dict[TransferId, Posting]]:
    """Post without a pause; make the backup meanwhile; return what had been acknowledged before it began."""
    database, clock, opened = Database(dsn), SystemClock(), accounts(12)
    await database.open()
    seat = Seat(database, clock)
    ledger = PostgresLedger(database, seat)
    await ledger.open_accounts(opened)
    work, made, stop = Workload(7, opened, clock.now), dict[TransferId, Posting](), asyncio.Event()

    async def post() -> None:
        while not stop.is_set():
            for posting in await ledger.post(work.lists((1, 5, 60))):
                if posting.outcome is Outcome.POSTED:
                    made[posting.id] = posting

    posting = asyncio.ensure_future(post())
    while len(made) < 500:
        await asyncio.sleep(0.01)
    before = dict(made)
    code, said = await asyncio.to_thread(backup)
    stop.set()
    await posting
    await seat.close()
    await database.close()
    assert code == 0, said
    assert len(made) > len(before) + 100, "money moved all the time"
    return said, before


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="holdfast-backup-"))
    folder.chmod(0o755)
    data = folder / "data"
    with hold_data_folder(data):
        pass
    server = EmbeddedPostgres(data / "postgres")
    server.start()
    try:
        migrate.apply(server.create_database(), migrate.shipped())
        with asyncio.Runner() as runner:
            said, before = runner.run(
                _traffic(database_dsn(None, data), lambda: run("create", folder / "backup", "--data", data))
            )
        yield Place(folder, data, folder / "backup", said, before)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_backup_is_open_to_nobody_else_and_says_what_is_in_it(place: Place) -> None:
    assert "It has the ledger's batches up to" in place.said
    assert stat.S_IMODE(place.backup.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.backup.iterdir()} == {0o600}
    names = {"manifest.json", "base.tar.gz", "holdfast.json", "password", "password.holdfast"}
    assert {path.name for path in place.backup.iterdir()} == names
    assert sorted(path.name for path in place.folder.iterdir()) == ["backup", "data"], "nothing else is left"
    with psycopg.connect(EmbeddedPostgres(place.data / "postgres").dsn()) as connection:
        assert connection.execute("select from pg_replication_slots").fetchall() == []


def test_it_proves_itself_and_comes_back_with_everything_acknowledged_before_it_began(place: Place) -> None:
    code, text = run("verify", place.backup)
    assert (code, "Sound: what was made by" in text) == (0, True), text
    restored = place.folder / "restored"
    code, text = run("restore", place.backup, "--data", restored)
    assert (code, f"holdfast up --data {restored}" in text) == (0, True), text
    assert stat.S_IMODE((restored / "postgres").stat().st_mode) == 0o700
    assert sorted(p.name for p in restored.iterdir()) == ["holdfast.json", "lock", "postgres"]
    server = EmbeddedPostgres(restored / "postgres")
    server.start()
    try:
        dsn = server.create_database()
        assert verify(dsn).findings == []
        with asyncio.Runner() as runner:
            runner.run(_compare(dsn, place.acknowledged))
    finally:
        server.stop()
    shutil.rmtree(restored)


async def _compare(dsn: str, acknowledged: dict[TransferId, Posting]) -> None:
    database = Database(dsn)
    await database.open()
    ids = list(acknowledged)
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        assert await queries.find(database, some) == {i: acknowledged[i] for i in some}
    async with database.connection() as connection:
        added_up = {row[0]: row[1:] for row in await (await connection.execute(ADDED_UP)).fetchall()}
    balances = await queries.balances(database, [a.number for a in accounts(12)])
    for number, b in balances.items():
        sums = (
            b.debits_posted_minor,
            b.credits_posted_minor,
            b.debits_pending_minor,
            b.credits_pending_minor,
        )
        assert sums == added_up.get(number, (0, 0, 0, 0))
    assert len(added_up) > 8
    clock = SystemClock()
    seat = Seat(database, clock)  # a writer loads what was restored, and goes on
    ledger = PostgresLedger(database, seat)
    outcomes = Counter(
        p.outcome for p in await ledger.post(Workload(9, accounts(12), clock.now).lists((60,)))
    )
    assert outcomes[Outcome.POSTED]
    await seat.close()
    await database.close()
    assert verify(dsn).findings == []


def test_it_is_not_restored_over_anything_nor_made_over_anything(place: Place) -> None:
    code, text = run("create", place.backup, "--data", place.data)
    assert (code, "is there already" in text) == (1, True), text
    code, text = run("create", place.folder / "no" / "backup", "--data", place.data)
    assert (code, "is no folder. Make it first" in text) == (1, True), text
    code, text = run("create", place.folder / "other", "--data", place.folder / "nothing")
    assert (code, "No database: none runs in" in text) == (1, True), text
    code, text = run("create", place.folder / "other", dsn="postgresql://db.internal/holdfast")
    assert (code, "back it up with its own means" in text) == (1, True), text
    code, text = run("restore", place.backup, "--data", place.data)
    assert (code, "is not empty: it has" in text) == (1, True), text
    kept = place.folder / "kept"
    kept.mkdir()
    (kept / "letter.txt").write_text("mine")
    code, text = run("restore", place.backup, "--data", kept)
    assert (code, "letter.txt" in text, (kept / "letter.txt").read_text()) == (1, True, "mine"), text
    assert [path.name for path in kept.iterdir()] == ["letter.txt"]
    shutil.rmtree(kept)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _rewrite(path: Path, **changed: Any) -> None:
    """Change a manifest and let its checksum fit."""
    said = json.loads(path.read_text()) | changed
    said.pop("checksum")
    path.write_text(json.dumps(said | {"checksum": manifests._checksum(said)}))


BREAKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "an altered byte": (lambda b: _flip(b / "base.tar.gz"), "its SHA-256 is not the one"),
    "a file cut off": (lambda b: _cut(b / "base.tar.gz"), "It is cut off"),
    "a missing password": (lambda b: (b / "password").unlink(), "password is missing"),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), "is no backup"),
    "half a manifest": (lambda b: _cut(b / "manifest.json"), "cannot be read"),
    "an altered manifest": (
        lambda b: (b / "manifest.json").write_text(
            (b / "manifest.json").read_text().replace('"18"', '"17"').replace(": 18", ": 17")
        ),
        "its own checksum does not fit",
    ),
    "another PostgreSQL": (lambda b: _rewrite(b / "manifest.json", postgres=17), "(PostgreSQL 17,"),
    "another layout": (lambda b: _rewrite(b / "manifest.json", data_format=2), "data format 2"),
    "another format": (lambda b: _rewrite(b / "manifest.json", format="holdfast-backup-9"), "has the format"),
    "a root of other batches": (
        lambda b: _rewrite(b / "manifest.json", facts={"root": {"size": 3, "root": "00" * 32}}),
        "is not the one that was noted",
    ),
    "batches that it lacks": (
        lambda b: _rewrite(b / "manifest.json", facts={"root": {"size": 10**9, "root": "00" * 32}}),
        "It lacks batches",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_one_that_is_not_whole_or_of_another_version_is_refused_with_the_reason(
    place: Place, name: str
) -> None:
    broken = place.folder / "broken"
    shutil.copytree(place.backup, broken)
    try:
        breaks, words = BREAKS[name]
        breaks(broken)
        code, text = run("verify", broken)
        assert (code, words in text) == (1, True), text
        if "root" not in name and "lacks" not in name:
            target = place.folder / "restored"
            code, text = run("restore", broken, "--data", target)
            assert (code, words in text, target.exists()) == (1, True, False), text
    finally:
        shutil.rmtree(broken)


def test_one_that_is_cut_off_leaves_nothing_under_its_name_and_the_next_one_clears_up(place: Place) -> None:
    target = place.folder / "again"
    partial = place.folder / ".again.partial" / "base.tar.gz"
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "backup", "create", str(target), "--data", str(place.data)],
        env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until(partial.exists, "it has begun", every_s=0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    code, text = run("create", target, "--data", place.data)
    assert code == 0, text
    assert not partial.parent.exists()
    shutil.rmtree(target)
