"""Sends what was told to those who wish it, in a thread and on an event loop of its own.

So a hundred thousand letters hold up neither the detection nor the site. Each channel goes its own way: one
that is down keeps its place, and the others go on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec

from holdfast.base.clock import Clock
from holdfast.platform.log import logger
from holdfast.status.notices.archive import Written
from holdfast.status.store import Store
from holdfast.status.subscriptions.channels import Channel, ChannelDown, Outcome, Parcel
from holdfast.status.subscriptions.store import CONFIRM, Held, Roll, Subscriber

_log: Final = logger(__name__)
PAGE: Final = 500
"""Subscribers told at a time; so many may be told twice when the process dies."""
TRIES_MAX: Final = 12
AGAIN_S: Final = (30, 120, 600, 1_800, 3_600, 7_200)
"""Until a subscriber who could not be reached is tried again; the last one repeats."""
DOWN_S: Final = (1, 2, 5, 10, 30, 60)
"""Until a channel that is down is tried again; the last one repeats."""
STALE: Final = timedelta(hours=24)
"""What is older is not sent if something newer was told of the same."""
IDLE_S: Final = 5.0
FORGET_S: Final = 3_600.0


@dataclass(slots=True)
class Tally:
    """What became of parcels so far, by channel."""

    sent: dict[str, int] = field(default_factory=dict)
    later: dict[str, int] = field(default_factory=dict)
    never: dict[str, int] = field(default_factory=dict)
    down: dict[str, bool] = field(default_factory=dict)

    def count(self, kind: str, outcome: Outcome) -> None:
        """Count one."""
        counts: dict[str, int] = getattr(self, outcome)
        counts[kind] = counts.get(kind, 0) + 1


class Sender:
    """The sending of one service. `start` it once; `wake` it when there is something new."""

    def __init__(self, folder: Path, channels: Callable[[], Sequence[Channel]], clock: Clock) -> None:
        self.tally = Tally()
        self._folder = folder
        self._make = channels
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakes: list[asyncio.Event] = []
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()
        self._ready.wait(10)

    def wake(self) -> None:
        """Say that there may be something to send. From any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._awake)

    def stop(self) -> None:
        """End; what is under way is sent again later, if it was not noted."""
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _awake(self) -> None:
        for each in self._wakes:
            each.set()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        roll, store = Roll(self._folder / "subscribers.sqlite3"), Store(self._folder / "status.sqlite3")
        channels = self._make()
        last = store.last_notice()
        works = []
        for channel in channels:
            roll.place(channel.kind, last)
            wake = asyncio.Event()
            self._wakes.append(wake)
            works.append(asyncio.create_task(self._channel(channel, roll, store, wake)))
        works.append(asyncio.create_task(self._forget(roll)))
        self._ready.set()
        stopping = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait((*works, stopping), return_when=asyncio.FIRST_COMPLETED)
        for work in done - {stopping}:
            _log.error("sending ended", why=repr(work.exception()))
        for work in (*works, stopping):
            work.cancel()
        await asyncio.gather(*works, stopping, return_exceptions=True)
        for channel in channels:
            await channel.close()
        roll.close()
        store.close()

    async def _forget(self, roll: Roll) -> None:
        while True:
            roll.forget(self._clock.now().timestamp())
            await asyncio.sleep(FORGET_S)

    async def _channel(self, channel: Channel, roll: Roll, store: Store, wake: asyncio.Event) -> None:
        """Send by one channel until cancelled."""
        round_ = Round(channel, roll, store, self._clock, self.tally)
        downs = 0
        while True:
            wake.clear()
            try:
                worked = await round_.once()
            except ChannelDown as error:
                if not downs:
                    _log.warning("notices cannot go out", channel=channel.kind, why=str(error)[:200])
                self.tally.down[channel.kind] = True
                await asyncio.sleep(DOWN_S[min(downs, len(DOWN_S) - 1)])
                downs += 1
                continue
            if worked:
                if downs:
                    _log.info("notices go out again", channel=channel.kind)
                downs, self.tally.down[channel.kind] = 0, False
                continue
            due_s = roll.next_due_s(channel.kind)
            wait_s = (
                IDLE_S if due_s is None else min(IDLE_S, max(0.05, due_s - self._clock.now().timestamp()))
            )
            try:
                async with asyncio.timeout(wait_s):
                    await wake.wait()
            except TimeoutError:
                continue


class Round:
    """What one channel does at a time: a page of what is due, or a page of subscribers of the next notice."""

    def __init__(self, channel: Channel, roll: Roll, store: Store, clock: Clock, tally: Tally) -> None:
        self._channel = channel
        self._roll = roll
        self._store = store
        self._clock = clock
        self._tally = tally
        self._read: dict[int, Written] = {}

    async def once(self) -> bool:
        """Do it. False: there was nothing to do. Raises: `ChannelDown`."""
        return await self._due() or await self._next()

    def _notice(self, seq: int) -> Written | None:
        if seq not in self._read:
            body = self._store.notice(seq)
            if body is None:
                return None
            if len(self._read) > PAGE:
                self._read.clear()
            self._read[seq] = msgspec.json.decode(body, type=Written)
        return self._read[seq]

    async def _due(self) -> bool:
        kind, now_s = self._channel.kind, self._clock.now().timestamp()
        rows = self._roll.due(kind, now_s, PAGE)
        if not rows:
            return False
        jobs: list[tuple[Parcel, list[Held]]] = []
        gone: list[int] = []
        for subscriber, group in groupby(sorted(rows, key=_by_subscriber), key=lambda held: held.subscriber):
            to, many = self._roll.find(subscriber), list(group)
            if to is None:
                gone += [held.id for held in many]
                continue
            together = [held for held in many if held.together and held.notice != CONFIRM]
            for part in (*([held] for held in many if held not in together), together):
                notices = [n for held in part if held.notice and (n := self._notice(held.notice)) is not None]
                if part and (notices or part[0].notice == CONFIRM):
                    jobs.append((Parcel(to, notices), part))
                else:
                    gone += [held.id for held in part]
        self._roll.note(kind, None, (), gone)
        outcomes = await self._send([parcel for parcel, _ in jobs])
        held: list[Held] = []
        done: list[int] = []
        refused: list[int] = []
        for (parcel, part), outcome in zip(jobs, outcomes, strict=True):
            if outcome is None:
                continue  # the channel is down: it waits as it did
            done += [one.id for one in part]
            if outcome == "never":
                refused.append(parcel.to.id)
            elif outcome == "later":
                held += [_again(one, now_s) for one in part if one.tries + 1 < TRIES_MAX]
        self._roll.note(kind, None, held, done, refused)
        self._raise_if_down(outcomes)
        return True

    async def _next(self) -> bool:
        kind = self._channel.kind
        seq, cursor = self._roll.place(kind, 0)
        found = self._store.notice_after(seq)
        if found is None:
            return False
        number = found[0]
        notice = self._notice(number)
        page = self._roll.page(kind, cursor, PAGE)
        if notice is None or not page or self._stale(notice, number):
            self._roll.note(kind, (number, 0), (), ())
            return True
        now = self._clock.now()
        held: list[Held] = []
        now_to: list[Subscriber] = []
        for one in page:
            if one.confirmed_s > notice.at.timestamp() or not one.wishes.wants(notice):
                continue
            due, together = one.wishes.due(notice, now)
            if due <= now:
                now_to.append(one)
            else:
                held.append(Held(0, one.id, number, due.timestamp(), 0, together))
        outcomes = await self._send([Parcel(one, (notice,)) for one in now_to])
        refused = [one.id for one, outcome in zip(now_to, outcomes, strict=True) if outcome == "never"]
        for one, outcome in zip(now_to, outcomes, strict=True):
            if outcome in ("later", None):
                tries = 0 if outcome is None else 1
                held.append(
                    Held(0, one.id, number, now.timestamp() + AGAIN_S[0] * tries, tries, together=False)
                )
        self._roll.note(kind, (seq, page[-1].id), held, (), refused)
        self._raise_if_down(outcomes)
        return True

    def _stale(self, notice: Written, number: int) -> bool:
        """Tell whether a notice is old, and something newer was told of the same."""
        if self._clock.now() - notice.at < STALE:
            return False
        after = number
        while (found := self._store.notice_after(after)) is not None:
            after = found[0]
            if msgspec.json.decode(found[1], type=Written).about == notice.about:
                return True
        return False

    async def _send(self, parcels: Sequence[Parcel]) -> list[Outcome | None]:
        """Send parcels, some at a time; None: not tried, or not taken, because the channel is down."""
        outcomes: list[Outcome | None] = [None] * len(parcels)
        self._why = ""
        places = iter(range(len(parcels)))

        async def work() -> None:
            for place in places:
                if self._why:
                    return
                try:
                    outcome = await self._channel.send(parcels[place])
                except ChannelDown as error:
                    self._why = str(error) or "down"
                    return
                outcomes[place] = outcome
                self._tally.count(self._channel.kind, outcome)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._channel.at_once, len(parcels))):
                group.create_task(work())
        return outcomes

    def _raise_if_down(self, outcomes: Sequence[Outcome | None]) -> None:
        if None in outcomes:
            raise ChannelDown(self._why)


def _by_subscriber(held: Held) -> tuple[int, int]:
    return held.subscriber, held.notice


def _again(held: Held, now_s: float) -> Held:
    due_s = now_s + AGAIN_S[min(held.tries, len(AGAIN_S) - 1)]
    return Held(0, held.subscriber, held.notice, due_s, held.tries + 1, held.together)
