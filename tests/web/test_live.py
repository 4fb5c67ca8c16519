"""How a payment's page is kept up to date: the stream itself, on a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from litestar.response.sse import ServerSentEventMessage

from holdfast.base.limits import PAGE_STREAM_LIFE_S
from holdfast.web import live


@dataclass
class FastClock:
    """A clock on which waiting costs nothing; what is planned happens when its time has come."""

    plan: dict[float, int] = field(default_factory=dict)
    settles_s: float = 1e9
    at_s: float = 0.0
    reads: int = 0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.at_s)

    def monotonic_s(self) -> float:
        return self.at_s

    async def sleep(self, delay_s: float) -> None:
        self.at_s += delay_s

    async def version(self) -> int:
        self.reads += 1
        return max((v for s, v in self.plan.items() if s <= self.at_s), default=0)

    async def tell(self) -> live.Told:
        version = await self.version()
        return live.Told(f"{version}.0", f"<p>{version}</p>", self.at_s >= self.settles_s)


async def collect(clock: FastClock, last_seen: str | None = None) -> list[ServerSentEventMessage]:
    return [m async for m in live.follow(clock.version, clock.tell, clock=clock, last_seen=last_seen)]


async def test_a_change_is_told_at_once_and_the_end_is_told_last() -> None:
    clock = FastClock({1.0: 1, 2.0: 2}, settles_s=2.0)
    sent = await collect(clock)
    assert sent[0].retry
    assert [m.event for m in sent[1:]][-1] == "settled"
    assert sent[-1].id == "2.0"
    assert clock.at_s < 2.5


async def test_a_browser_that_comes_back_is_told_what_it_missed_and_not_what_it_has() -> None:
    missed = await collect(FastClock({0.0: 7, 3.0: 8}, settles_s=3.0), last_seen="6.0")
    assert missed[1].id == "7.0"
    had = await collect(FastClock({0.0: 7, 0.2: 8}, settles_s=0.2), last_seen="7.0")
    assert [m.id for m in had[1:]] == ["8.0"]


async def test_a_settled_payment_is_told_once_even_to_a_browser_that_has_it() -> None:
    sent = await collect(FastClock({0.0: 7}, settles_s=0.0), last_seen="7.0")
    assert [m.event for m in sent[1:]] == ["settled"]


async def test_a_stream_ends_by_itself_and_reads_ever_less_often() -> None:
    clock = FastClock()
    sent = await collect(clock)
    assert PAGE_STREAM_LIFE_S <= clock.at_s < PAGE_STREAM_LIFE_S + 5
    assert {m.event for m in sent[1:]} == {"story"}
    assert clock.reads < 1_200, "the database is asked a bounded number of times"
