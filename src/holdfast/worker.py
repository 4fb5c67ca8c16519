"""The worker: one asyncio process that does what is due.

Any number may run; leases and fences keep them apart.

Each duty runs in a loop of its own: again at once while it finds a full load, else after a pause. A duty
that fails is logged and tried again with growing pauses; it never ends the others. The worker says that it
is ready once its first round is through, and goes on saying that it lives from the same loop that works: if
that hangs, its supervisor hears it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import uvloop

from holdfast.base.errors import HoldfastError
from holdfast.base.limits import IDEMPOTENCY_KEEP_HOURS
from holdfast.boot import App, open_app
from holdfast.domains.webhooks import operations as webhooks
from holdfast.domains.webhooks import queries as webhook_queries
from holdfast.flows import reactions, reconcile, settlement_files
from holdfast.flows.deliver import Courier
from holdfast.platform import heartbeat, idempotency, jobs, log, metrics, migrate, outbox, outcomes, processes
from holdfast.platform.config import Config
from holdfast.platform.db import DatabaseError
from holdfast.platform.http import HttpClient
from holdfast.platform.probes import probes

RESOLVE_LIMIT: Final = 100
RESOLVE_LANES: Final = 3
RELAY_LIMIT: Final = 500
EXPIRE_LIMIT: Final = 500
_PAUSE_S_MAX: Final = 15.0
_HOUSEKEEPING: Final = "17 * * * *"
_SETTLEMENT: Final = "41 3 * * *"
"""Daily, when most providers have closed their day. `holdfast settle` does the same by hand."""
_ROUNDS_MAX: Final = 200
_PATIENCE_S: Final = 0.5
"""How long the worker leaves the ledger's empty seat to a server, where payments arrive."""
_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to do again and again.

    `work` returns how much it did; at `full` or more it is done again at once.
    """

    name: str
    every_s: float
    full: int
    work: Callable[[], Awaitable[int]]
    lanes: int = 1


def main(config: Config) -> None:
    """Run a worker until SIGINT or SIGTERM."""
    log.configure(config.log_level, config.log_format, mode=config.mode, process="worker")
    uvloop.run(_run(config))


async def _run(config: Config) -> None:
    app = await open_app(config, patience_s=_PATIENCE_S)
    try:
        await asyncio.to_thread(migrate.require, app.database.dsn, migrate.shipped())
        await Worker(app).run()
    finally:
        await app.close()


class Worker:
    """Runs the duties of one process."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._stop = asyncio.Event()
        self._http = HttpClient(allow_private=app.config.private_webhooks)
        self._courier = Courier(app.database, self._http, app.clock, random.SystemRandom().random)
        self._heart = heartbeat.Heart.new(app.ids.new(), "worker", app.clock.now())
        self._done: dict[str, int] = {}
        self._first_round: set[str] = set()
        self._ready = False

    def stop(self) -> None:
        """Take nothing new; `run` returns when what is under way has ended."""
        self._stop.set()

    def duties(self) -> tuple[Duty, ...]:
        """Return what this worker does."""
        app, now = self._app, self._app.clock.now
        return (
            Duty(
                "resolve",
                0.5,
                RESOLVE_LIMIT,
                lambda: reconcile.resolve_due(app.desk, limit=RESOLVE_LIMIT),
                RESOLVE_LANES,
            ),
            Duty(
                "expire",
                1.0,
                EXPIRE_LIMIT,
                lambda: app.ledger.expire_due(limit=EXPIRE_LIMIT),
            ),
            Duty(
                "react", 0.2, RELAY_LIMIT, lambda: reactions.react(app.database, now=now(), limit=RELAY_LIMIT)
            ),
            Duty("deliver", 0.5, 1, self._courier.deliver_due),
            Duty("heartbeat", heartbeat.BEAT_EVERY_S, 2, self._beat),
        )

    async def run(self) -> None:
        """Work until `stop`, SIGINT or SIGTERM."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, self.stop)
        duties = self.duties()
        tasks = [asyncio.create_task(self._keep(duty)) for duty in duties for _ in range(duty.lanes)]
        tasks.append(asyncio.create_task(self._keep_jobs()))
        tasks.append(asyncio.create_task(self._pulse({duty.name for duty in duties})))
        try:
            config = self._app.config
            told = outcomes.telling(
                self._app.desk.outcomes, config.status_url, config.status_token,
                f"worker-{self._app.ids.new()}", self._app.desk.router.avoid,
            )  # fmt: skip
            async with probes(config.status_port, lambda: self._ready), told:
                await self._stop.wait()
            processes.notify("STOPPING=1")
            _log.info("stopping")
            await asyncio.wait(tasks, timeout=self._app.config.stop_timeout_ms / 1_000 * 0.8)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(HoldfastError, DatabaseError):
                await heartbeat.last_beat(self._app.database, self._heart)
            await self._http.close()

    async def _keep(self, duty: Duty) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                done = await duty.work()
            except Exception as error:  # noqa: BLE001 - whatever it is, the other duties and the next round go on
                failures += 1
                metrics.DUTY_FAILED.labels(duty.name).inc()
                _log.warning(
                    "a duty failed",
                    duty=duty.name,
                    error=f"{type(error).__name__}: {error}",
                    failures=failures,
                )
                await self._pause(min(_PAUSE_S_MAX, 0.5 * 2 ** min(failures, 6)))
                continue
            failures = 0
            self._done[duty.name] = self._done.get(duty.name, 0) + done
            metrics.DUTY_DONE.labels(duty.name).inc(done)
            self._first_round.add(duty.name)
            await self._pause(0.0 if done >= duty.full else duty.every_s)

    async def _pause(self, delay_s: float) -> None:
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), delay_s * random.uniform(0.9, 1.1))  # noqa: S311 - jitter

    async def _pulse(self, wanted: set[str]) -> None:
        """Tell the supervisor that this loop turns; that it is ready, once every duty has done a round."""
        while not self._stop.is_set():
            if not self._ready and wanted <= self._first_round:
                self._ready = True
                processes.notify("READY=1\nSTATUS=working")
                _log.info("ready")
            elif self._ready:
                processes.notify("WATCHDOG=1")
            await self._pause(1.0 if self._ready else 0.05)

    async def _beat(self) -> int:
        app, database, now = self._app, self._app.database, self._app.clock.now()
        await heartbeat.beat(database, self._heart, now=now, facts=self._done)
        metrics.OUTBOX_LAG_S.set(await outbox.lag(database, now=now))
        count, oldest = await app.book.in_doubt()
        metrics.IN_DOUBT.set(count)
        app.desk.outcomes.waiting = count
        app.desk.outcomes.oldest_s = 0.0 if oldest is None else (now - oldest).total_seconds()
        metrics.IN_DOUBT_OLDEST_S.set(0.0 if oldest is None else (now - oldest).total_seconds())
        metrics.WEBHOOKS_OWED.set(await webhook_queries.owed_count(database))
        return 1

    async def _keep_jobs(self) -> None:
        failures = 0
        while not self._stop.is_set():
            schedules = {
                ("housekeeping", _HOUSEKEEPING): self.tidy,
                ("settlement", _SETTLEMENT): self.settle,
            }
            work = jobs.Jobs(self._app.database, handlers={}, schedules=schedules)
            ended = asyncio.create_task(work.run())
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            work.stop()
            outcome = (await asyncio.gather(ended, return_exceptions=True))[0]
            if isinstance(outcome, Exception):
                failures += 1
                _log.warning("jobs failed", error=f"{type(outcome).__name__}: {outcome}", failures=failures)
                await self._pause(min(_PAUSE_S_MAX, 0.5 * 2 ** min(failures, 6)))

    async def settle(self) -> None:
        """Compare each rail's own file with what is known; one rail's trouble is not another's."""
        for rail in settlement_files.sources(self._app.desk):
            try:
                found = await settlement_files.settle_rail(self._app.desk, rail)
            except HoldfastError as error:
                _log.warning("a settlement file was not read", rail=rail, error=error.message)
                continue
            metrics.SETTLED.labels(rail, "agreed").inc(found.agreed)
            metrics.SETTLED.labels(rail, "corrected").inc(len(found.corrected))
            metrics.SETTLED.labels(rail, "stray").inc(len(found.strays))
            metrics.SETTLED.labels(rail, "missing").inc(len(found.missing))
            tell = _log.warning if found.strays or found.missing else _log.info
            tell(
                "settlement file compared",
                rail=rail,
                agreed=found.agreed,
                corrected=len(found.corrected),
                strays=len(found.strays),
                missing=len(found.missing),
            )

    async def tidy(self) -> None:
        """Forget what need not be kept any more, in small batches."""
        database, now = self._app.database, self._app.clock.now()
        kept_since = now - timedelta(days=self._app.config.events_keep_days)
        keys_since = now - timedelta(hours=IDEMPOTENCY_KEEP_HOURS)
        forgotten = {
            "events": await _all(lambda: outbox.forget(database, before=kept_since)),
            "deliveries": await _all(lambda: webhooks.forget(database, before=kept_since)),
            "keys": await _all(lambda: idempotency.forget_before(database, keys_since)),
            "jobs": await _all(lambda: jobs.forget(database)),
        }
        _log.info("tidied up", **forgotten)


async def _all(forget: Callable[[], Awaitable[int]]) -> int:
    """Repeat until nothing is left, within bounds: the next hour goes on where this one ended."""
    total = 0
    for _ in range(_ROUNDS_MAX):
        done = await forget()
        total += done
        if not done:
            break
    return total
