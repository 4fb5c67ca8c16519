"""The heart of the service: takes in what is measured and said, keeps it, decides, and publishes.

Everything that changes the board goes through `add`: checked, kept durably, shown. A change is published at
once; without one, the site is made anew every minute, so that a reader can tell an old page by its date.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from holdfast.base.clock import Clock
from holdfast.base.errors import HoldfastError
from holdfast.base.ids import IdSource, public
from holdfast.platform.log import logger
from holdfast.platform.outcomes import Report
from holdfast.status import forecast, trends, uptime
from holdfast.status.board import Board, Drained, Entry, Fact, Numbered, Opened, Split
from holdfast.status.detector import MEASURED, Detector
from holdfast.status.graph import Graph
from holdfast.status.maintenance.conflicts import BUDGET_DAYS
from holdfast.status.maintenance.lead import Policy
from holdfast.status.maintenance.life import Life
from holdfast.status.notices.archive import Archive
from holdfast.status.notices.genuine import Official
from holdfast.status.outcomes import (
    BUCKET_S,
    COUNTS_KEEP_DAYS,
    PROBES_KEEP_DAYS,
    Count,
    Probed,
)
from holdfast.status.seal import Signer
from holdfast.status.shapes import View
from holdfast.status.site import Site
from holdfast.status.store import Store
from holdfast.status.target import Target
from holdfast.status.trends import Trends

_log: Final = logger(__name__)
TICK_S: Final = 0.5
"""How often what arrived is looked at."""
ANEW_S: Final = 60.0
"""The site is published again after so long although nothing changed."""
DUMP_S: Final = 30.0
"""How often the detection's state is kept: a restart loses so much of it at most."""
FORGET_S: Final = 3_600.0
SOURCES_MAX: Final = 1_000
"""Processes of the wallet whose reports are told apart."""
RECUR_S: Final = 3_600.0
"""How often it is looked whether windows of a series are to be planned."""
HEARD: Final = timedelta(seconds=10)
"""What waits is known when a report is no older; and it is looked at no sooner after an end."""
DRAIN_MAX: Final = timedelta(days=30)
"""So long after its end, what waited through an incident is looked for."""
SCHEDULE: Final = "schedule"
"""Who says what the plan says."""
_DAY_S: Final = 86_400


class Keeper:
    """One status service. Used from one event loop."""

    def __init__(
        self,
        store: Store,
        graph: Graph,
        signer: Signer,
        targets: Sequence[Target],
        clock: Clock,
        ids: IdSource,
        *,
        title: str,
        url: str,
        official: Official,
        policy: Policy | None = None,
        mail: bool = False,
        far: Sequence[Target] = (),
    ) -> None:
        self.graph = graph
        self.signer = signer
        self.policy = policy or Policy()
        self.life = Life(graph, self.policy)
        self.board = Board(store.entries())
        self.files: dict[str, bytes] = {}
        """The site as it was last made."""
        self.published_at: datetime | None = None
        self.waiting: dict[str, tuple[int, float]] = {}
        """By source: payments that are open, and how long the oldest has been, seconds."""
        self._store = store
        self._targets = targets
        self._far = [(target, asyncio.Event()) for target in far]
        """Places elsewhere, each brought up to date at its own pace."""
        self._clock = clock
        self._ids = ids
        self._title = title
        self._url = url
        self._official = official
        self._mail = mail
        self._site = Site(signer)
        self.archive = Archive(store, signer)
        self.told: Callable[[], None] = lambda: None
        """Called when there is something new to send."""
        self._since = _since(store, clock.now())
        self._detector = Detector.kept(store.get("detector"), graph, clock.now())
        self._recurred_s = 0.0
        self._numbers: dict[str, int] = {}
        self._counts: list[Count] = []
        self._probes: list[Probed] = []
        self._heard_at = datetime.min.replace(tzinfo=UTC)
        self._changed = asyncio.Event()
        self._publishing = asyncio.Lock()
        self._trends = Trends(graph)
        self._uncounted: set[str] = set()
        """Incidents of which it is not counted yet what happened."""
        self._undrained: dict[str, datetime] = {}
        """Incidents that are over, and when, of which something may still wait."""
        self._recall()

    def _recall(self) -> None:
        """Take up what was left when the service last ended."""
        now = self._clock.now()
        day_s = now.timestamp() - _DAY_S
        self._trends.take(self._store.counts(int(day_s)), self._store.probes(day_s))
        for one in self.board.incidents.values():
            over_at = one.resolved_at
            if one.open:
                self._uncounted.add(one.id)
            elif over_at is not None and one.drained_at is None and now - over_at < DRAIN_MAX:
                self._undrained[one.id] = over_at
        self.archive.take(self.view())

    def now(self) -> datetime:
        """Return the present moment."""
        return self._clock.now()

    def new_id(self, prefix: str) -> str:
        """Return a fresh id."""
        return public(prefix, self._ids.new())

    def add(self, by: str, *facts: Fact) -> None:
        """Check facts, keep them, and show them; all, or none. Raises: as `Board.check`."""
        now = self._clock.now()
        for fact in facts:
            self.board.check(fact, now, by)
        entries = [Entry(now, by, fact) for fact in facts]
        self._store.add(*entries)
        for entry in entries:
            self.board.take(entry)
            if isinstance(entry.fact, Opened):
                self._uncounted.add(entry.fact.id)
            elif isinstance(entry.fact, Split):
                self._uncounted.add(entry.fact.into)
        if self.archive.take(self.view()):
            self.told()
        self._changed.set()

    def take(self, report: Report) -> bool:
        """Take what a process of the wallet tells. False: it was taken before."""
        if report.number <= self._numbers.get(report.source, -1):
            return False
        if report.source not in self._numbers and len(self._numbers) >= SOURCES_MAX:
            gone = next(iter(self._numbers))
            del self._numbers[gone]
            self.waiting.pop(gone, None)
        self._numbers[report.source] = report.number
        bucket_s = int(self._clock.now().timestamp()) // BUCKET_S * BUCKET_S
        self._counts += [
            Count(bucket_s, r.capability, r.rail, r.bank, r.country, r.succeeded, r.failed, r.declined)
            for r in report.rows
        ]
        self._detector.heard(self._clock.now())
        if report.waiting is not None:
            self._heard_at = self._clock.now()
            self.waiting[report.source] = (report.waiting, report.oldest_s or 0.0)
        return True

    def probed(self, result: Probed) -> None:
        """Take what a probe found."""
        self._probes.append(result)

    def tick(self) -> None:
        """Look at what arrived, and act on it."""
        counts, self._counts = self._counts, []
        probes, self._probes = self._probes, []
        if counts:
            self._store.add_counts(counts)
        if probes:
            self._store.add_probes(probes)
        self._trends.take(counts, probes)
        now = self._clock.now()
        facts = self._detector.tick(now, counts, probes, self.board, self.new_id)
        if facts:
            self.add(MEASURED, *facts)
        self._maintain(now, counts, probes)
        if estimates := forecast.due(self.board, now):
            self.add(MEASURED, *estimates)
        if numbered := self._numbered(now):
            self.add(MEASURED, *numbered)
        if drained := self._drained(now):
            self.add(MEASURED, *drained)

    def _numbered(self, now: datetime) -> list[Numbered]:
        """Count what happened during incidents that just ended, while it is still kept."""
        facts = []
        for id_ in self._uncounted & self.board.incidents.keys():
            one = self.board.incidents[id_]
            if one.open or one.resolved_at is None:
                continue
            self._uncounted.discard(id_)
            self._undrained[id_] = one.resolved_at
            from_s, to_s = one.started_at.timestamp() - 60, one.resolved_at.timestamp() + 60
            if to_s - from_s <= COUNTS_KEEP_DAYS * _DAY_S:
                touched = dict.fromkeys(period.component for period in one.periods)
                counts = self._store.counts(int(from_s), int(min(to_s, now.timestamp())) + 1)
                facts.append(Numbered(id_, trends.during(self.graph, touched, counts, from_s, to_s)))
        return facts

    def _drained(self, now: datetime) -> list[Drained]:
        """Return the incidents whose backlog is done: nothing that waits began before they were over."""
        if not self._undrained or not self.waiting or now - self._heard_at > HEARD:
            return []
        oldest = now - timedelta(seconds=max((s for many, s in self.waiting.values() if many), default=0.0))
        found = []
        for id_, over_at in list(self._undrained.items()):
            if oldest >= over_at and now - over_at > HEARD:
                del self._undrained[id_]
                found.append(Drained(id_))
        return found

    def _maintain(self, now: datetime, counts: list[Count], probes: list[Probed]) -> None:
        """See to the windows of maintenance."""
        verifying = [one for one in self.board.maintenance.running if one.state == "verifying"]
        self.life.checks.take(verifying, counts, probes)
        facts = self.life.due(self.board, now, self.new_id)
        if now.timestamp() - self._recurred_s >= RECUR_S:
            self._recurred_s = now.timestamp()
            facts += self.life.recurring(self.board, now, self.new_id, self.budget_left_s)
        if facts:
            self.add(SCHEDULE, *facts)

    def planned_rails(self) -> tuple[str, ...]:
        """Return the rails on which nothing new should begin: cut now, or within the time to drain."""
        soon = self._clock.now() + timedelta(seconds=self.policy.drain_s)
        rails: dict[str, None] = {}
        for one in self.board.maintenance.public:
            if not one.running and one.starts_at > soon:
                continue
            for effect in one.effects:
                known = self.graph.components.get(effect.component)
                if effect.kind != "slower" and one.state != "verifying" and known and "rail" in known.facts:
                    rails[known.facts["rail"]] = None
        return tuple(sorted(rails))

    def recur(self) -> None:
        """Plan the windows of series at once."""
        facts = self.life.recurring(self.board, self._clock.now(), self.new_id, self.budget_left_s)
        if facts:
            self.add(SCHEDULE, *facts)

    def budget_left_s(self) -> dict[str, float]:
        """Return, by capability, the seconds of its error budget that the last 30 days have left."""
        allowed_s = (1 - self.policy.objective) * BUDGET_DAYS * _DAY_S
        past = uptime.Past(self.graph)
        down_s = past.down_s(uptime.periods(self.board), self._clock.now(), BUDGET_DAYS)
        doing = (one.id for one in self.graph.components.values() if one.kind == "capability")
        return {id_: allowed_s - down_s[id_] for id_ in doing}

    def view(self) -> View:
        """Return all that is published now."""
        own = self.board.standings()
        standings = self.graph.standings(own)
        return View(
            self._title,
            self._url,
            self.graph,
            self.board,
            own,
            standings,
            self._clock.now(),
            self._official,
            self._since,
            self.archive.digests,
            self._mail,
            self.policy.zone,
            self._trends,
        )

    async def publish(self) -> None:
        """Make the site and bring it to every place; a place that fails does not hold up the others."""
        async with self._publishing:
            self._changed.clear()
            self.files = self._site.files(self.view(), unmeasured=self._detector.unmeasured)
            self.published_at = self._clock.now()
            for target in self._targets:
                try:
                    await asyncio.to_thread(target.publish, self.files)
                    await asyncio.to_thread(target.tidy)
                except (OSError, HoldfastError):
                    _log.exception("the site could not be published", target=type(target).__name__)
            for _, fresh in self._far:
                fresh.set()

    async def _bring(self, target: Target, fresh: asyncio.Event) -> None:
        """Bring the newest site to a place elsewhere, until cancelled. One that fails is tried again."""
        while True:
            await fresh.wait()
            fresh.clear()
            try:
                await asyncio.to_thread(target.publish, self.files)
                await asyncio.to_thread(target.tidy)
            except (OSError, HoldfastError) as error:
                _log.warning(
                    "a place elsewhere has an old site", target=type(target).__name__, why=str(error)
                )

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._show())
            group.create_task(self._keep())
            for target, fresh in self._far:
                group.create_task(self._bring(target, fresh))

    async def _watch(self) -> None:
        while True:
            self.tick()
            await self._clock.sleep(TICK_S)

    async def _show(self) -> None:
        while True:
            await self.publish()
            try:
                async with asyncio.timeout(ANEW_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _keep(self) -> None:
        """Keep the detection's state, and forget what is old."""
        forgotten_s = 0.0
        while True:
            await self._clock.sleep(DUMP_S)
            self.keep()
            if self._clock.monotonic_s() - forgotten_s >= FORGET_S:
                forgotten_s = self._clock.monotonic_s()
                now_s = self._clock.now().timestamp()
                self._store.forget(
                    counts_before_s=int(now_s) - COUNTS_KEEP_DAYS * _DAY_S,
                    probes_before_s=now_s - PROBES_KEEP_DAYS * _DAY_S,
                )

    def keep(self) -> None:
        """Keep what a restart needs."""
        self._store.put("detector", msgspec.json.encode(self._detector.dump()))


def _since(store: Store, now: datetime) -> datetime:
    kept = store.get("since")
    if kept is not None:
        return datetime.fromisoformat(kept.decode()).astimezone(UTC)
    store.put("since", now.isoformat().encode())
    return now
