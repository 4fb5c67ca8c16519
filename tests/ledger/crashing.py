"""Processes that post mixed traffic until they are killed, and what each of them was told.

Each writes to a file of its own what it is about to ask, and what it was answered, as it happens: the file is
all that is left of a process that is killed. The writer among them is set to begin segments and to write
snapshots so often that a kill can meet it there.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Final

from holdfast.base.errors import OutcomeUnknown, Unavailable
from holdfast.base.ids import AccountId
from holdfast.domains.ledger.model import NewAccount, NewTransfer, Outcome, Posting, Unit
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.ledger.store import copied
from holdfast.domains.ledger.writer import behind
from holdfast.platform.db import Database
from holdfast.platform.processes import die_with_parent
from tests.ledger.conftest import claim, note
from tests.ledger.workload import Workload, accounts

ACCOUNTS: Final = accounts(24)
LISTS, UNITS = 3, 3
CALLERS: Final = LISTS + UNITS + 2
SEGMENT_S: Final = 0.5
SNAPSHOT_TRANSFERS: Final = 400
FREE = ACCOUNTS[0].number
"""An account that may be overdrawn."""


@dataclass
class Call:
    """What was asked for, and the answer. `state`: told, unknown, away, conflict, or open: none came.

    `unit`: the name of the row of another domain that must commit with the transfers, `key` what it claims.
    """

    transfers: tuple[NewTransfer, ...] = ()
    unit: str = ""
    key: str = ""
    account: NewAccount | None = None
    state: str = "open"
    answers: tuple[tuple[Outcome, int], ...] = ()


@dataclass
class Poster:
    """One such process, and what it has written so far."""

    process: BaseProcess
    file: Path
    calls: dict[int, Call] = field(default_factory=dict)
    rested: dict[int, int] = field(default_factory=dict)
    """By caller: the newest pause that it keeps."""
    _at: int = 0

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def read(self) -> None:
        """Take in what was written since the last time. What was cut off by a kill was never said."""
        if not self.file.exists():
            return
        with self.file.open("rb") as said:
            said.seek(self._at)
            rest = said.read()
        while len(rest) >= 4 and len(rest) >= 4 + (size := int.from_bytes(rest[:4], "big")):
            self._take(*pickle.loads(rest[4 : 4 + size]))
            rest = rest[4 + size :]
            self._at += 4 + size

    def _take(self, what: str, number: int, value: object) -> None:
        if what == "rests":
            assert isinstance(value, int)
            self.rested[number] = value
        elif what == "asks":
            assert isinstance(value, Call)
            self.calls[number] = value
        else:
            assert isinstance(value, tuple)
            self.calls[number].state, self.calls[number].answers = what, value

    def posted(self) -> int:
        """Count the calls so far of which something was posted."""
        return sum(any(o is Outcome.POSTED for o, _ in call.answers) for call in self.calls.values())


def context() -> ForkServerContext:
    """Return how processes are started: from one that has imported everything already."""
    made = ForkServerContext()
    made.set_forkserver_preload(["tests.ledger.crashing"])
    return made


def post_for_ever(dsn: str, folder: Path, file: Path, seed: int) -> None:
    """Post until killed. While there is a file `pause` in `folder`, rest."""
    die_with_parent(signal.SIGKILL, parent=os.getppid())
    paces = {
        "_FAST_PER_S": Random(seed).choice((0, 0, 300)), "_SLOW_PER_S": 10**9, "_SLOW_S": SEGMENT_S,
        "SNAPSHOT_TRANSFERS": SNAPSHOT_TRANSFERS,
    }  # fmt: skip
    sizes = {(behind, name): value for name, value in paces.items()} | {
        (copied, "ROWS_MIN"): Random(seed).choice((1, copied.ROWS_MIN))
    }
    for (where, name), value in sizes.items():
        setattr(where, name, value)
    asyncio.run(_Traffic(dsn, folder, file, seed).run())


class _Traffic:
    """The callers of one process."""

    def __init__(self, dsn: str, folder: Path, file: Path, seed: int) -> None:
        self._database = Database(dsn, connections_min=1, connections_max=2)
        self._seat = Seat(self._database, folder=folder / "run")
        self._ledger = PostgresLedger(self._database, self._seat)
        self._folder = folder
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._work = Workload(seed, ACCOUNTS, lambda: datetime.now(UTC))
        self._random = Random(seed)
        self._seed = seed
        self._number = 0

    def _say(self, what: str, number: int, value: object) -> None:
        said = pickle.dumps((what, number, value))
        os.write(self._file, len(said).to_bytes(4, "big") + said)

    async def run(self) -> None:
        while True:
            try:
                await self._database.open(timeout_s=2.0)
                break
            except Unavailable:
                self._database = Database(self._database.dsn, connections_min=1, connections_max=2)
        self._seat.open()
        turns = [self._list] * LISTS + [self._unit] * UNITS + [self._account, self._expire]
        await asyncio.gather(*(self._caller(number, turn) for number, turn in enumerate(turns)))

    async def _caller(self, number: int, turn: Callable[[], Awaitable[None]]) -> None:
        rests = 0
        while True:
            pause = self._pause()
            if not pause:
                await turn()
                continue
            if pause != rests:
                rests = pause
                self._say("rests", number, rests)
            await asyncio.sleep(0.02)

    def _pause(self) -> int:
        """The number of the pause that is to be kept; 0 when there is none."""
        try:
            return int((self._folder / "pause").read_text())
        except FileNotFoundError:
            return 0

    async def _ask(self, call: Call, what: Awaitable[tuple[str, tuple[Posting, ...]]]) -> str:
        self._number += 1
        number = self._number
        self._say("asks", number, call)
        postings: tuple[Posting, ...] = ()
        try:
            state, postings = await what
        except OutcomeUnknown:
            state = "unknown"
        except Unavailable:
            state = "away"
        self._say(state, number, tuple((p.outcome, p.amount_minor) for p in postings))
        return state

    async def _list(self) -> None:
        transfers = self._work.lists()

        async def post() -> tuple[str, tuple[Posting, ...]]:
            return "told", tuple(await self._ledger.post(transfers))

        await self._ask(Call(tuple(transfers)), post())

    async def _unit(self) -> None:
        """Post a few transfers with rows of another domain, of which now and then one is claimed already."""
        name = f"{self._seed} {self._number}"
        key = f"key {self._random.randrange(10**9)}" if self._random.random() < 0.7 else "key " + name[-1]
        made = tuple(self._work._plain() for _ in range(self._random.randrange(1, 4)))
        unit = Unit(made, (note(name, "paid"),), (note(name, "declined"),), (claim(key),))

        async def submit() -> tuple[str, tuple[Posting, ...]]:
            outcome = await self._seat.submit(unit)
            return "conflict" if outcome.status == "conflict" else "told", outcome.postings

        await self._ask(Call(made, unit=name, key=key), submit())

    async def _account(self) -> None:
        """Open an account, give it a limit, and pay something into it."""
        await asyncio.sleep(0.1)
        number = AccountId(10**12 + self._random.randrange(10**12))
        account = NewAccount(number, f"account:{number}", ACCOUNTS[0].asset)

        async def open_it() -> tuple[str, tuple[Posting, ...]]:
            await self._ledger.open_accounts([account])
            return "told", ()

        if await self._ask(Call(account=account), open_it()) != "told":
            return
        t = NewTransfer(self._work._new(), FREE, number, account.asset, 7)

        async def post() -> tuple[str, tuple[Posting, ...]]:
            await self._ledger.set_limits({number: 5})
            return "told", tuple(await self._ledger.post([t]))

        await self._ask(Call((t,)), post())

    async def _expire(self) -> None:
        await asyncio.sleep(0.2)
        try:
            await self._ledger.expire_due()
        except (OutcomeUnknown, Unavailable):
            await asyncio.sleep(0.1)


def wait_for(what: str, condition: Callable[[], object], within_s: float = 40.0) -> float:
    """Wait until something is true, and return how long that took, seconds."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() < started + within_s, f"within {within_s:g} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - started


def children(pid: int) -> Iterator[int]:
    """Return all processes below one."""
    try:
        own = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return
    for child in own:
        yield child
        yield from children(child)
