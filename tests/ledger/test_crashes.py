"""Kill -9 and power cuts, again and again: no answer turns out false, and the books prove themselves.

Three processes post mixed traffic over a PostgreSQL of their own. In each cycle some of it is killed at a
random moment, or at one where the writer is about to open, seal, mark or index a segment or to write a
snapshot: the test holds a lock that it waits for, and then kills at once or right after it let go. What was
killed is started again, everybody must be served again, and then all pause and everything is checked.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import psycopg
import pytest

from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.platform import migrate
from holdfast.platform.db import Database
from holdfast.platform.postgres import EmbeddedPostgres
from tests.ledger import aftermath
from tests.ledger.conftest import TABLES
from tests.ledger.crashing import (
    ACCOUNTS,
    CALLERS,
    SEGMENT_S,
    Call,
    Poster,
    children,
    context,
    post_for_ever,
    wait_for,
)

POSTERS: Final = 3
SERVED_AGAIN_WITHIN_S: Final = 30.0
EXT4_IOC_SHUTDOWN: Final = 0x8004587D
NO_FLUSH: Final = 2
"""Not even the journal is written: all that was not synced is lost, as when the power is cut."""
SETTINGS: Final = {"max_wal_size": "128MB", "shared_buffers": "64MB", "recovery_init_sync_method": "syncfs"}
KILLS: Final = ("writer", "forwarder", "session", "postgresql", "writer and postgresql", "everything")
CUTS: Final = ("power", "power of everything")
MOMENTS: Final = ("segments", "segments", "snapshots", "marks", "rest", "", "", "", "")
"""The table that the writer is about to write when it is killed.

`rest`: nobody posts, so that the writer leaves a segment and nothing is in the next; empty: at random.
"""
LEFT: Final = """
select marked from ledger.segments s join ledger.head h on s.number = h.seq >> 20"""


class Disk:
    """A file system in a file, whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        self._image, self.mount = folder / "image", folder / "disk"
        self.mount.mkdir()
        with self._image.open("wb") as image:
            image.truncate(2 * 2**30)
        _run("mkfs.ext4", "-q", str(self._image))
        self.plug_in()
        (self.mount / "probe").write_bytes(b"")
        os.sync()

    def plug_in(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.mount))

    def cut(self) -> None:
        """From here on nothing reaches the disk, and nothing that was not synced is there."""
        opened = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(opened, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_FLUSH))
        finally:
            os.close(opened)

    def unplug(self) -> None:
        """Nobody may use it any more."""
        wait_for("the disk is let go of", lambda: not _fails("umount", str(self.mount)), 10.0)

    def trace(self, seed: int) -> None:
        """Write something without syncing it."""
        (self.mount / "probe").write_bytes(str(seed).encode() * 1000)

    def traces(self) -> bytes:
        return (self.mount / "probe").read_bytes()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)


def _fails(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode != 0


@dataclass
class World:
    """A database server, processes that post, and what was found so far."""

    folder: Path
    seed: int
    disk: Disk | None = None
    posters: list[Poster] = field(default_factory=list)
    gone: list[Poster] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    pauses: int = 0
    slowest_s: float = 0.0
    _cut: bool = False

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.context = context()
        place = self.disk.mount if self.disk else self.folder
        place.chmod(0o755)
        self.server = EmbeddedPostgres(place / "pg", settings=SETTINGS)

    def set_up(self) -> None:
        self.server.start()
        self.dsn = self.server.dsn("holdfast")
        self.server.create_database()
        migrate.apply(self.dsn, migrate.shipped())
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(TABLES.encode())
        asyncio.run(_open_accounts(self.dsn))
        os.sync()
        for _ in range(POSTERS):
            self.add_poster()
        self.wait_until_served()

    def add_poster(self) -> None:
        seed = self.random.randrange(2**32)
        file = self.folder / f"said-{seed}"
        process = self.context.Process(
            target=post_for_ever, args=(self.dsn, self.folder, file, seed), daemon=True
        )
        process.start()
        self.posters.append(Poster(process, file))

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(sql.encode()).fetchall()

    def writer(self) -> Poster:
        [(holder,)] = self.ask("select holder from ledger.writer")
        return next(p for p in self.posters if holder.endswith(f":{p.pid}"))

    def wait_until_served(self) -> None:
        """Wait until each process is told again that it posted something."""
        for p in self.posters:
            p.read()
        before = {p.pid: p.posted() for p in self.posters}

        def served() -> bool:
            for p in self.posters:
                p.read()
                assert p.process.is_alive(), f"a process ended by itself: exit code {p.process.exitcode}"
            return all(p.posted() > before[p.pid] + 2 for p in self.posters)

        waited_s = wait_for("everybody is served again", served, SERVED_AGAIN_WITHIN_S)
        self.slowest_s = max(self.slowest_s, waited_s)

    def kill_poster(self, poster: Poster) -> None:
        poster.process.kill()
        self.posters.remove(poster)
        self.gone.append(poster)

    def kill_session(self) -> None:
        """Kill the server's process that works for the writer: the server ends all others, and recovers."""
        sessions = "select pid from pg_stat_activity where application_name like 'holdfast ledger writer%'"
        with suppress(ProcessLookupError):
            for (pid,) in self.ask(f"{sessions} limit 1"):
                os.kill(pid, signal.SIGKILL)

    def kill_server(self) -> None:
        """Kill all processes of the server, in any order."""
        assert self.server.pid is not None
        victims = [self.server.pid, *children(self.server.pid)]
        self.random.shuffle(victims)
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.kill()
        wait_for("they are gone", lambda: not any(map(_runs, victims)))

    def strike(self, kill: str) -> None:
        parts: list[Callable[[], None]] = []
        if kill.startswith("power"):
            assert self.disk is not None
            self.disk.trace(self.seed)
            parts.append(self.disk.cut)
        if "postgresql" in kill or kill == "everything":
            parts.append(self.kill_server)
        if kill == "session":
            parts.append(self.kill_session)
        victims = [*self.posters] if "everything" in kill else []
        if kill.startswith("writer"):
            victims = [self.writer()]
        if kill == "forwarder":
            writer = self.writer()
            victims = [self.random.choice([p for p in self.posters if p is not writer])]
        parts += [partial(self.kill_poster, p) for p in victims]
        self.random.shuffle(parts)
        for part in parts:
            part()

    def strike_at(self, kill: str, moment: str) -> None:
        """Strike while the writer waits to write the table `moment`, or right after it could."""
        at_once = self.random.random() < 0.4
        with suppress(psycopg.Error), psycopg.connect(self.dsn) as holder:
            holder.execute(f"lock table ledger.{moment} in share row exclusive mode".encode())
            waits = (
                f"select count(*) from pg_locks where not granted and relation = 'ledger.{moment}'::regclass"
            )
            wait_for(f"the writer writes {moment}", lambda: self.ask(waits) != [(0,)], 10.0)
            if not at_once:
                holder.commit()
                time.sleep(self.random.choice((0.0, 0.02)) * self.random.random())
            self.strike(kill)

    def recover(self) -> None:
        """Start again what was killed."""
        if self.disk is not None and self.server.pid is not None and self._cut:
            self.kill_server()
        if self.server.pid is None:
            if self.disk is not None and self._cut:
                self.disk.unplug()
                self.disk.plug_in()
                assert self.disk.traces() == b"", "what was not synced is lost"
            self.server.start()
        while len(self.posters) < POSTERS:
            self.add_poster()

    def cycle(self, kill: str, moment: str) -> dict[str, float]:
        """Kill, start again, check; return the seconds that each part took."""
        self._cut = kill.startswith("power")
        times = [time.monotonic()]
        if moment == "rest":
            with suppress(AssertionError):  # it may be one that is not left
                wait_for("the segment is left", lambda: self.ask(LEFT) == [(True,)], 3 * SEGMENT_S)
            self.strike(kill)
        else:
            self.go_on()
            time.sleep(self.random.uniform(0.1, 0.7))
            if moment:
                self.strike_at(kill, moment)
            else:
                self.strike(kill)
        for step in (self.recover, self.go_on, self.wait_until_served, self.check):
            times.append(time.monotonic())
            step()
        times.append(time.monotonic())
        names = ("killed", "started", "", "served", "checked")
        took = zip(names, itertools.pairwise(times), strict=True)
        return {name: round(end - start, 1) for name, (start, end) in took if name}

    def check(self) -> None:
        """Have everybody pause, and check every answer so far and all that is there."""
        self.pauses += 1
        pause = self.folder / "pause"
        pause.with_suffix(".new").write_text(str(self.pauses))
        pause.with_suffix(".new").rename(pause)
        for p in self.posters:
            wait_for("it pauses", partial(self._rests, p))
        for p in self.gone:
            p.read()
        tables = aftermath.read(self.dsn)
        self.ends = aftermath.check_answers(self.calls(), tables)
        aftermath.check_books(self.dsn, tables)

    def go_on(self) -> None:
        (self.folder / "pause").unlink(missing_ok=True)

    def _rests(self, poster: Poster) -> bool:
        poster.read()
        return sum(rested == self.pauses for rested in poster.rested.values()) == CALLERS

    def calls(self) -> Iterator[Call]:
        for p in (*self.gone, *self.posters):
            yield from p.calls.values()

    def tear_down(self) -> None:
        for p in [*self.posters]:
            self.kill_poster(p)
        for p in self.gone:
            p.process.join(10)
        if self.server.pid is not None:
            self.server.kill()
        if self.disk is not None:
            self.disk.unplug()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def _open_accounts(dsn: str) -> None:
    database = Database(dsn)
    await database.open()
    seat = Seat(database)
    await PostgresLedger(database, seat).open_accounts(ACCOUNTS)
    await seat.close()
    await database.close()


def survive(folder: Path, seed: int, kills: tuple[str, ...], cycles: int, disk: Disk | None = None) -> None:
    print(f"HOLDFAST_TEST_SEED={seed}")
    world = World(folder, seed, disk)
    draw, struck = Random(seed + 1), Counter[str]()
    bags: dict[tuple[str, ...], list[str]] = {kills: [], MOMENTS: []}
    try:
        world.set_up()
        for number in range(cycles):
            drawn = []
            for bag, left in bags.items():
                if not left:
                    left += draw.sample(bag, len(bag))
                drawn.append(left.pop())
            kill, moment = drawn
            times_s = world.cycle(kill, moment)
            struck[f"{kill} at {moment}" if moment else kill] += 1
            print(f"{number}: {kill} {moment}, {times_s}, {dict(world.ends)}")
        [(segments, transfers)] = world.ask(
            "select count(*), (select count(*) from ledger.transfers) from ledger.segments"
        )
        print(f"{transfers} transfers, {segments} segments, slowest {world.slowest_s:.1f} s, {dict(struck)}")
        assert transfers > 50 * cycles
        assert segments >= cycles * SEGMENT_S  # a cycle may be over before its segment is
    finally:
        world.tear_down()


def seed_of(offset: int = 0) -> int:
    given = int(os.environ.get("HOLDFAST_TEST_SEED", "0"))
    return given or Random().randrange(1, 10**9) + offset


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not under `tmp_path`: that is closed to the user who runs the database when root runs the tests."""
    made = Path(tempfile.mkdtemp(prefix="holdfast-crash-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def disk(folder: Path) -> Disk:
    """A disk whose power can be cut, where that is allowed."""
    try:
        return Disk(folder)
    except (OSError, subprocess.SubprocessError) as error:
        why = getattr(error, "stderr", "") or error
        pytest.skip(f"a file system cannot be mounted from a file here, so its power cannot be cut: {why}")


@pytest.mark.timeout(300)
def test_no_answer_turns_out_false_though_everything_is_killed(folder: Path) -> None:
    survive(folder, seed_of(), KILLS, 8)


@pytest.mark.timeout(300)
def test_no_answer_turns_out_false_though_the_power_is_cut(folder: Path, disk: Disk) -> None:
    survive(folder, seed_of(), CUTS, 2, disk)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("world", range(7))
def test_no_answer_turns_out_false_in_twenty_crashes(folder: Path, world: int) -> None:
    survive(folder, seed_of(world), KILLS, 20)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("world", range(5))
def test_no_answer_turns_out_false_in_twenty_crashes_and_power_cuts(
    folder: Path, disk: Disk, world: int
) -> None:
    survive(folder, seed_of(world), (*CUTS, *KILLS), 20, disk)
