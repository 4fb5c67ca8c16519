"""A world by seed: several processes at one ledger, while everything outside them breaks.

The processes run the real seat, lane, committer, book, forwarder and reception; the database and the network
are simulated. After the storm everything heals; then each process is to be served soon, and the judge looks
at what happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from random import Random
from typing import Any, cast

from holdfast.base.limits import LEDGER_DEADLINE_S
from holdfast.domains.ledger.operations import Seat
from holdfast.domains.ledger.store import segments
from holdfast.domains.ledger.writer.lane import Lane
from holdfast.drills.virtual_time import EPOCH
from holdfast.platform.db import Database
from tests.ledger.sim import reading, statements
from tests.ledger.sim.callers import Asking, Call
from tests.ledger.sim.client import SimDatabase
from tests.ledger.sim.loop import GATE, Gate, ProcessLoop
from tests.ledger.sim.network import Network, NetworkedLoop, Weather
from tests.ledger.sim.postgres import Commit, Postgres
from tests.ledger.sim.sizes import Decisions, quiet, small
from tests.ledger.workload import Workload, accounts

PROBES_S = 12.0
"""For so long after the end of all faults is asked whether everybody is served."""
PROBE_S = 1.0
CLOSES_WITHIN_S = 30.0
_BURYINGS_MAX = 4
_BURYING_S = 10.0


class SkewedClock:
    """The clock of one process: right but for a constant."""

    def __init__(self, loop: ProcessLoop, skew_s: float) -> None:
        self._loop = loop
        self._skew_s = skew_s

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time() + self._skew_s)

    def monotonic_s(self) -> float:
        return self._loop.time()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


class Process:
    """A process, through its lives."""

    def __init__(self, world: World, number: int) -> None:
        random = world.random
        self.world = world
        self.name = f"p{number}"
        self.number = number
        self.clock = SkewedClock(world.loop, random.choice((0.0, 0.0, 0.7, -1.3, 2.5, 40.0)))
        self.patience_s = random.choice((0.0, 0.0, 0.3))
        self.batch_transfers_max = random.choice((1, 16, 32))
        self.weather = Weather(random)
        self.stops: list[tuple[float, float]] = []
        """From when to when it was stopped."""
        self.running = self.leaves = False
        self.gate: Gate
        self.database: SimDatabase
        self.seat: Seat

    def start(self) -> None:
        world = self.world
        self.gate = Gate(self.name)
        self.database = SimDatabase(world.postgres, world.loop, world.random, self.weather)
        self.running, self.leaves = True, False
        self.take_seat()

    def take_seat(self) -> None:
        self.seat = Seat(
            cast("Database", self.database),
            self.clock,
            listen=f"tcp:{self.name}:{4000 + self.number}",
            patience_s=self.patience_s,
            batch_transfers_max=self.batch_transfers_max,
        )
        self.gate.context.run(self.seat.open)

    async def take_another_seat(self) -> None:
        """Close the seat as an orderly end does, and take another."""
        self.leaves = True
        await self.seat.close()
        self.leaves = False
        self.take_seat()

    def do(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.world.loop.spawn(self.gate, work)

    def kill(self) -> None:
        """As SIGKILL: nothing of it runs any more, and the kernel closes what it had open."""
        if self.running:
            self.running = False
            self.world.loop.kill_process(self.gate)
            self.world.network.killed(self.gate)
            self.database.killed()
            self.world.graves.append(self.gate)

    def stop(self, for_s: float) -> None:
        """As SIGSTOP, for a while."""
        if self.running and not self.gate.shut:
            loop, gate, now = self.world.loop, self.gate, self.world.loop.time()
            self.stops.append((now, now + for_s))
            loop.stop_process(gate)
            loop.later(for_s, loop.go_on, gate)

    @property
    def writes(self) -> bool:
        return self.running and self.seat.lane is not None


class World:
    """One seed's world. `storm` is what happens to it before everything heals."""

    def __init__(
        self, seed: int, *, processes: int = 0, callers: int = 2, work_seed: int | None = None
    ) -> None:
        self.seed = seed
        self.random = random = Random(seed)
        self.loop = NetworkedLoop(seed)
        self.postgres = Postgres(self.loop, random)
        statements.begin_world(self.postgres)
        self.postgres.statements = statements.numbered(statements.writing() | reading.reading())
        self.network = self.loop.network = Network(self.loop, random)
        self.graves: list[Gate] = []
        self.processes = [Process(self, n + 1) for n in range(processes or random.choice((2, 3, 3)))]
        self.opened = accounts(18)
        drawn = seed if work_seed is None else work_seed
        work = Workload(drawn, self.opened, lambda: EPOCH + timedelta(seconds=self.loop.time()))
        self.asking = Asking(Random(drawn), work, self.opened, lambda: self.postgres.tables["versions"])
        self.callers = callers
        self.alarms: list[str] = []
        """What the product's log called an error, and exceptions that nobody took."""
        self.decisions: Decisions = {}
        self.tell: Callable[[str], None] = nobody_listens
        """Told what happens, by whoever wants to see it."""
        self.calm = False
        self.healed_s = 0.0
        self.closings: list[tuple[str, float | None]] = []
        """How long each seat took to close; None: longer than it may."""
        self.last: Lane | None = None
        """The lane of the last writer."""
        self.segment_bits = segments.SEGMENT_BITS
        self.commits: list[Commit] = []
        """Everything committed until then, in order."""

    def run(self, storm: Callable[[World], Awaitable[None]]) -> World:
        """Live through it."""
        with small(self.random) as self.decisions, quiet(self.alarms, self._said):
            self.segment_bits = segments.SEGMENT_BITS
            self.loop.set_exception_handler(self._alarm)
            try:
                self.loop.run_until_complete(self._live(storm))
            finally:
                self._bury()
        return self

    def _said(self, event: str) -> None:
        gate = GATE.get()
        self.tell(f"{gate.name if gate else ''} {event}")

    def _alarm(self, _: Any, context: dict[str, Any]) -> None:
        self.alarms.append(f"{context.get('message')}: {context.get('exception')!r}")

    def process(self, name: str) -> Process:
        return next(p for p in self.processes if p.name == name)

    def writer(self) -> Process | None:
        """Return the process that holds itself for the writer under the newest epoch."""
        writers = [p for p in self.processes if p.writes]
        return max(writers, key=lambda p: p.seat.epoch, default=None)

    async def make(self, call: Call, process: Process, patience_s: float | None = None) -> None:
        """Make a call, in a process that is not about to change its seat."""
        while process.leaves:
            await asyncio.sleep(0.02)
        self.tell(f"{process.name} asks: {call}")
        await call.make(process.seat, self.loop.time, patience_s)
        self.tell(f"{process.name} is answered: {call}")

    async def _live(self, storm: Callable[[World], Awaitable[None]]) -> None:
        for process in self.processes:
            process.start()
        first = self.processes[0]
        await first.do(self.make(self.asking.open(first.name, self.opened), first))
        for process in self.processes:
            self.let_in(process)
        await storm(self)
        self.healed_s = self.loop.time()
        probes = [process.do(self._probe(process)) for process in self.processes]
        await asyncio.wait(probes, timeout=PROBES_S + LEDGER_DEADLINE_S)
        self.calm = True
        await self._wait_for_answers()
        await self._end()

    def let_in(self, process: Process) -> None:
        """Have callers come to a process."""
        for _ in range(self.callers):
            process.do(self._call_on(process))

    async def _call_on(self, process: Process) -> None:
        r = self.random
        while True:
            await asyncio.sleep(r.expovariate(1.2))
            if self.calm:
                return
            calls = [self.asking.draw(process.name) for _ in range(r.choice((1, 1, 2, 4)))]
            patience_s = 10 ** r.uniform(-3.0, -0.4) if r.random() < 0.08 else None
            await asyncio.gather(*(self.make(call, process, patience_s) for call in calls))

    async def _probe(self, process: Process) -> None:
        """Ask for something plain again and again until it is done."""
        while self.loop.time() < self.healed_s + PROBES_S:
            call = self.asking.post(process.name, PROBE_S, plain=True)
            call.probe = True
            await self.make(call, process)
            if call.answer == "done":
                return

    async def _wait_for_answers(self) -> None:
        until = self.loop.time() + 2 * LEDGER_DEADLINE_S + 2
        while self.loop.time() < until and (
            any(map(waits, self.asking.calls)) or self._busy() or self.writer() is None
        ):
            await asyncio.sleep(0.25)

    def _busy(self) -> bool:
        """Tell whether the writer still commits something, for somebody who gave up perhaps."""
        writer = self.writer()
        lane = None if writer is None else writer.seat.lane
        return lane is not None and lane._runner is not None

    async def _end(self) -> None:
        writer = self.writer()
        self.last = None if writer is None else writer.seat.lane
        self.commits = self.postgres.commits[:]
        for process in self.processes:
            began_s = self.loop.time()
            closing = process.do(process.seat.close())
            await asyncio.wait([closing], timeout=CLOSES_WITHIN_S)
            took_s = self.loop.time() - began_s if closing.done() else None
            self.closings.append((process.name, took_s))

    def _bury(self) -> None:
        """Let what is left unwind, over which nothing is judged any more, for a bounded time."""
        loop = self.loop
        loop.set_exception_handler(lambda *_: None)
        gates = [*self.graves, *(process.gate for process in self.processes)]
        for _ in range(_BURYINGS_MAX):
            left = asyncio.all_tasks(loop)
            if not left:
                break
            for gate in gates:
                loop.bury(gate)
            for task in left:
                task.cancel()
            loop.later(_BURYING_S, loop.stop)
            loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()


def nobody_listens(_: str) -> None:
    return


def waits(call: Call) -> bool:
    """Tell whether a call is still to be answered; who was killed cannot be."""
    return call.ended_s is None and call.gate is not None and not call.gate.killed
