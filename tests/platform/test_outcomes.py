"""What the wallet tells the status service: every outcome once, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import web

from holdfast.base.secret import Secret
from holdfast.platform import outcomes
from holdfast.platform.outcomes import LEAVES_MAX, Outcomes, Report, Row, telling
from tests.support.waiting import until_async

TOKEN = Secret("hfst_a-token-of-a-test")


class Service:
    """Takes reports over a real socket, and can be told to fail before or after it took one."""

    def __init__(self) -> None:
        self.fails: list[str] = []
        self.reports: list[Report] = []
        self.tokens: set[str] = set()
        self.planned: list[str] = []
        self.port = 0

    async def take(self, request: web.Request) -> web.Response:
        self.tokens.add(request.headers["Authorization"])
        report = msgspec.json.decode(await request.read(), type=Report)
        how = self.fails.pop(0) if self.fails else ""
        if how != "before" and report.number not in {one.number for one in self.reports}:
            self.reports.append(report)
        if how:
            return web.Response(status=503)
        return web.json_response({"taken": True, "planned": self.planned})

    def totals(self) -> Counter[str]:
        told: Counter[str] = Counter()
        for report in self.reports:
            for row in report.rows:
                told[row.rail] += row.succeeded + row.failed + row.declined
        return told


@asynccontextmanager
async def running() -> AsyncIterator[Service]:
    service = Service()
    app = web.Application()
    app.add_routes([web.post("/v1/facts", service.take)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    service.port = runner.addresses[0][1]
    try:
        yield service
    finally:
        await runner.cleanup()


def nothing(_rails: Sequence[str]) -> None:
    """Nobody cares which rails are to be avoided."""


async def told(condition: Callable[[], bool], what: str) -> None:
    async def holds() -> bool:
        return condition()

    await until_async(holds, what, within_s=20)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "EVERY_S", 0.02)


async def test_every_outcome_is_told_once_although_reports_fail_before_and_after_they_were_taken() -> None:
    counted = Outcomes()
    async with running() as service:
        service.fails = ["before", "after", "before", "after", "after"]
        url = f"http://127.0.0.1:{service.port}"
        async with telling(counted, url, TOKEN, "server-1", nothing):
            for number in range(50):
                counted.count("failed" if number % 5 == 0 else "succeeded", "pay", "north")
                await asyncio.sleep(0.005)
            await told(lambda: service.totals()["north"] == 50, "all 50 are told")
        assert [report.number for report in service.reports] == list(range(len(service.reports)))
        rows = [row for report in service.reports for row in report.rows]
        assert sum(row.failed for row in rows) == 10
        assert service.tokens == {f"Bearer {TOKEN.reveal()}"}


async def test_a_process_reports_also_when_nothing_happened_and_tells_what_waits() -> None:
    counted = Outcomes()
    counted.waiting, counted.oldest_s = 3, 41.5
    async with running() as service:
        async with telling(counted, f"http://127.0.0.1:{service.port}", TOKEN, "worker-1", nothing):
            await told(lambda: len(service.reports) >= 3, "three reports")
        last = service.reports[-1]
        assert (last.rows, last.waiting, last.oldest_s) == ((), 3, 41.5)


async def test_rails_to_avoid_are_told_when_they_change_and_forgotten_when_the_service_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outcomes, "PLANNED_S", 0.1)
    heard: list[tuple[str, ...]] = []
    async with running() as service:
        url = f"http://127.0.0.1:{service.port}"
        async with telling(Outcomes(), url, TOKEN, "server-1", lambda rails: heard.append(tuple(rails))):
            service.planned = ["north"]
            await told(lambda: heard == [("north",)], "maintenance is told")
            service.fails = ["before"] * 1_000
            await told(lambda: heard == [("north",), ()], "it is forgotten")


async def test_without_a_status_service_nothing_is_told_and_nothing_fails() -> None:
    counted = Outcomes()
    counted.count("succeeded", "pay", "north")
    async with telling(counted, "", None, "server-1", nothing):
        await asyncio.sleep(0.05)
    async with telling(counted, "http://127.0.0.1:9", TOKEN, "server-1", nothing):
        await asyncio.sleep(0.1)


def test_leaves_have_a_bound_and_what_is_beyond_counts_for_its_rail() -> None:
    counted = Outcomes()
    for number in range(LEAVES_MAX * 2):
        counted.count("succeeded", "pay", "north", f"bank{number}")
    rows = counted.drain()
    assert len(rows) <= LEAVES_MAX
    assert sum(row.succeeded for row in rows) == LEAVES_MAX * 2
    assert Row("pay", "north", "", "", LEAVES_MAX + LEAVES_MAX // 2, 0, 0) in rows
    assert counted.drain() == ()
