"""A drill against the running platform: real processes, real sockets, a real `kill -9`.

`holdfast up` runs in a folder of its own on free ports. Payers pay by card over the HTTP API and repeat what
got no answer with the same key. After a while the provider that is first for everybody fails in the way of
the scenario; then the server is killed outright, at work; its parent starts it again. When the fault is over
and nothing is under way any more, three books are compared: the payments, the ledger (which also proves
itself), and the providers' own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp

from holdfast.base.ids import public
from holdfast.domains.ledger.operations import PostgresLedger
from holdfast.domains.ledger.verify import verify
from holdfast.domains.payments.model import Attempt, Payment, PaymentState
from holdfast.domains.payments.store import PostgresBook
from holdfast.drills import judge
from holdfast.drills.draw import NEVER
from holdfast.drills.scenario import FaultKind, Scenario
from holdfast.flows import chart, demo
from holdfast.platform.db import Database
from holdfast.platform.postgres import database_dsn

Figures = dict[str, object]
Tell = Callable[[str], None]

PAYERS: Final = 6
PAUSE_S: Final = 0.25
"""Between two payments of one payer: bounds the drill's load."""
FAULT_FROM_S: Final = 3.0
KILL_AT_S: Final = 6.0
FAULT_TO_S: Final = 11.0
PAY_UNTIL_S: Final = 15.0
DEADLINE_S: Final = 30.0
START_WITHIN_S: Final = 120.0
SETTLE_WITHIN_S: Final = 180.0
ASSET: Final = "CNY"
CARDS: Final = ("pm_card_visa", "pm_card_mastercard")
RAILS: Final = ("north", "south", "harbour")

LIKE: Final[dict[FaultKind, str]] = {
    FaultKind.GRAY: "lost",
    FaultKind.HANG: "mute",
    FaultKind.DARK: "dark",
    FaultKind.REFUSE: "refuse",
    FaultKind.UNRESOLVABLE: "refuse",
    FaultKind.DECLINE_SPIKE: "decline",
    FaultKind.SLOW: "slow",
    FaultKind.BROWNOUT: "brownout",
    FaultKind.ACK_THEN_SILENT: "mute",
    FaultKind.STATUS_QUERY_STORM: "brownout",
    FaultKind.RESTART_STORM: "error_before",
}
"""What the sandbox does that is most like each kind of fault."""


class LiveDrillError(RuntimeError):
    """The platform could not be started, or did not come to rest: the drill has no result."""


@dataclass(slots=True)
class _Sale:
    """One payment as its payer saw it: when it was asked for, and when it was told to have succeeded."""

    asked_s: float
    done_s: float = NEVER
    state: str = ""


@dataclass(slots=True)
class _Run:
    """What happened, by reference; seconds since the payers began."""

    sales: dict[str, _Sale] = field(default_factory=dict)
    killed_s: float = NEVER
    back_s: float = NEVER
    settled_s: float = NEVER
    broken_calls: int = 0


class _Platform:
    """One `holdfast up` in a folder of its own."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="holdfast-drill-"))
        self.place.chmod(0o755)  # the database runs as a user of its own
        self.data = self.place / "data"
        self.port, self.sandbox_port = free_port(), free_port()
        self.log = self.place / "up.log"
        ports = ("--port", str(self.port), "--sandbox-port", str(self.sandbox_port), "--data", str(self.data))
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HOLDFAST_")}
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "holdfast", "up", *ports],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=clean,
            )

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def control(self, path: str) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}/_control{path}"

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def kill_server(self) -> None:
        """End the server's processes outright, as a power cut or the kernel would."""
        found = [pid for pid in below(self.process.pid) if b"holdfast\0serve" in command_line(pid)]
        for pid in {one for server in found for one in (server, *below(server))}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            raise LiveDrillError(f"no server runs:\n{self.said()}")

    def end(self) -> None:
        """Stop everything and remove the folder."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.place, ignore_errors=True)


def live_drill(scenario: Scenario, *, seed: int | None = None, tell: Tell = lambda _words: None) -> Figures:
    """Run the live drill and return its report, with the keys of a simulated one.

    Raises: `LiveDrillError` when the platform does not start or does not come to rest.
    """
    platform = _Platform()
    try:
        return asyncio.run(_drill(platform, scenario, scenario.seed if seed is None else seed, tell))
    finally:
        platform.end()


async def _drill(platform: _Platform, scenario: Scenario, seed: int, tell: Tell) -> Figures:
    headers = {"Authorization": f"Bearer {demo.API_KEY.reveal()}"}
    timeout = aiohttp.ClientTimeout(total=40)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http:
        await _until_ready(platform, http)
        tell("Payers pay; the trouble begins shortly")
        run = _Run()
        began = time.monotonic()
        chances = [Random(f"{seed}:{payer}") for payer in range(PAYERS)]  # noqa: S311 - a drill repeats by seed
        await asyncio.gather(
            _trouble(platform, http, scenario, run, began, tell),
            *(_payer(platform, http, chance, f"{seed}-{i}", run, began) for i, chance in enumerate(chances)),
        )
        tell("Waiting until nothing is under way")
        database = Database(database_dsn(None, platform.data))
        await database.open()
        try:
            payments = await _settled(PostgresBook(database), run, began)
            books = {name: await _get(http, platform.control(f"/ledger/{name}")) for name in RAILS}
            announced = await _announced(platform, http)
            tell("Comparing the books")
            return await _judged(scenario, seed, run, payments, books, announced, database, platform)
        finally:
            await database.close()


async def _until_ready(platform: _Platform, http: aiohttp.ClientSession) -> None:
    end = time.monotonic() + START_WITHIN_S
    while time.monotonic() < end and platform.process.poll() is None:
        if "Open http://" in platform.said():
            with suppress(aiohttp.ClientError, TimeoutError):
                async with http.get(platform.url("/readyz")) as reply:
                    if reply.status == 200:
                        return
        await asyncio.sleep(0.1)
    raise LiveDrillError(f"the platform did not start:\n{platform.said()}")


async def _trouble(
    platform: _Platform, http: aiohttp.ClientSession, scenario: Scenario, run: _Run, began: float, tell: Tell
) -> None:
    """Break the first provider, kill the server, mend the provider."""
    await asyncio.sleep(began + FAULT_FROM_S - time.monotonic())
    first = scenario.faults[0] if scenario.faults else None
    kind = LIKE[first.kind] if first else "lost"
    fault = {"instance": "north", "fault": kind, "share": first.share if first else 0.35}
    tell(f"north fails: {kind}")
    async with http.post(platform.control("/faults"), json=fault) as reply:
        reply.raise_for_status()
    await asyncio.sleep(began + KILL_AT_S - time.monotonic())
    tell("kill -9 of the server")
    platform.kill_server()
    run.killed_s = time.monotonic() - began
    await asyncio.sleep(began + FAULT_TO_S - time.monotonic())
    tell("north is mended")
    async with http.delete(platform.control("/faults")) as reply:
        reply.raise_for_status()


async def _payer(
    platform: _Platform, http: aiohttp.ClientSession, chance: Random, name: str, run: _Run, began: float
) -> None:
    """Pay again and again until the time is over."""
    number = 0
    while time.monotonic() - began < PAY_UNTIL_S:
        number += 1
        await _pay(platform, http, chance, f"drill-{name}-{number}", run, began)
        await asyncio.sleep(chance.uniform(0.5, 1.5) * PAUSE_S)


async def _pay(
    platform: _Platform, http: aiohttp.ClientSession, chance: Random, key: str, run: _Run, began: float
) -> None:
    """One payment: what gets no answer is asked again with the same key, as a careful client does."""
    sale = run.sales[key] = _Sale(time.monotonic() - began)
    body = {
        "amount": {"asset": ASSET, "amount_minor": chance.randint(100, 9_000)},
        "guest": {"token": chance.choice(CARDS), "kind": "card"},
        "reference": key,
    }
    until = time.monotonic() + DEADLINE_S
    path, said = "", {"state": ""}
    while time.monotonic() < until and sale.state not in ("succeeded", "failed", "canceled"):
        try:
            if path:
                said = await _get(http, platform.url(path))
            else:
                ask = http.post(platform.url("/v1/payments"), json=body, headers={"Idempotency-Key": key})
                async with ask as reply:
                    said = await reply.json() if reply.status < 300 else {}
            sale.state = str(said.get("state", ""))
            path = f"/v1/payments/{said['id']}" if said.get("id") else ""
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError):
            run.broken_calls += 1
        if sale.state == "succeeded":
            sale.done_s = time.monotonic() - began
            if run.killed_s < sale.done_s:
                run.back_s = min(run.back_s, sale.done_s)
            return
        await asyncio.sleep(0.15)


async def _get(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with http.get(url) as reply:
        reply.raise_for_status()
        found: dict[str, Any] = await reply.json()
        return found


async def _settled(book: PostgresBook, run: _Run, began: float) -> list[Payment]:
    """Return the payments once none is under way. Raises: `LiveDrillError` when that takes too long."""
    end = time.monotonic() + SETTLE_WITHIN_S
    while True:
        payments = await _all_payments(book)
        open_ = [p for p in payments if not p.final or p.next_step_at is not None]
        if not open_:
            run.settled_s = time.monotonic() - began
            return payments
        if time.monotonic() > end:
            told = [entry.words for entry in await book.journal(open_[0].id)]
            raise LiveDrillError(
                f"{len(open_)} of {len(payments)} payments are still under way; "
                f"the story of {open_[0].asked.reference}: {'; '.join(told)}; next {open_[0].next_step_at}"
            )
        await asyncio.sleep(0.25)


async def _all_payments(book: PostgresBook) -> list[Payment]:
    found: list[Payment] = []
    while True:
        page = await book.listing(demo.MERCHANT, after=found[-1].id if found else None, limit=100)
        if not page:
            return found
        found += page


async def _announced(platform: _Platform, http: aiohttp.ClientSession) -> Counter[str]:
    """Return how often each payment's success was announced, from the list of events."""
    counts: Counter[str] = Counter()
    path = "/v1/events?limit=100&type=payment.succeeded"
    cursor = ""
    while True:
        page = await _get(http, platform.url(path + (f"&starting_after={cursor}" if cursor else "")))
        rows = page["data"]
        counts.update(str(row["subject"]) for row in rows if row["type"] == "payment.succeeded")
        if not page.get("has_more") or not rows:
            return counts
        cursor = rows[-1]["id"]


async def _judged(
    scenario: Scenario,
    seed: int,
    run: _Run,
    payments: list[Payment],
    books: dict[str, dict[str, Any]],
    announced: Counter[str],
    database: Database,
    platform: _Platform,
) -> Figures:
    """Return the figures, from the three books."""
    ours = [p for p in payments if p.asked.reference in run.sales]
    book = PostgresBook(database)
    attempts = {p.id: await book.attempts(p.id) for p in ours}
    double, lost, findings = _compare(ours, attempts, books, set(run.sales))
    findings += await _ledger_findings(database, platform, books)
    sales = list(run.sales.values())
    in_time = sum(sale.done_s - sale.asked_s <= DEADLINE_S for sale in sales)
    succeeded = sum(p.state is PaymentState.SUCCEEDED for p in ours)
    twice = sum(count > 1 for count in announced.values())
    reached = in_time / len(sales) if sales else 1.0
    clean = not double and not lost and not findings and not twice
    about = {name: getattr(scenario, name) for name in _ABOUT} | {
        "rails": list(RAILS),
        "faults": _faults(scenario),
    }
    waits = [sale.done_s - sale.asked_s for sale in sales if sale.done_s < NEVER]
    return {
        "scenario": scenario.name, "mode": "live", "seed": seed, "continuity": round(reached, 6),
        "attempted": len(sales), "completed_in_deadline": in_time, "completed_later": succeeded - in_time,
        "oracle_completable": len(sales), "declined": len(ours) - succeeded, "in_doubt": 0,
        "double_charges_kept": double, "money_lost_minor": lost, "asset": ASSET,
        "books_balanced": not findings,
        "announced_twice": twice, "detect_s": None, "moved_s": None,
        "recover_s": None if run.back_s == NEVER else round(run.back_s - run.killed_s, 3),
        "backlog_s": round(max(0.0, run.settled_s - FAULT_TO_S), 3), "baselines": {},
        "waits_ms": judge.percentiles_ms(waits),
        "findings": findings, "passed": clean and reached >= judge.RECOVERED, "about": about, "timeline": {},
    }  # fmt: skip


_ABOUT: Final = ("title", "title_zh", "source", "cause", "story", "story_zh", "duration_s", "deadline_s")


def _faults(scenario: Scenario) -> list[Figures]:
    first = scenario.faults[0] if scenario.faults else None
    kind, share = (first.kind.value, first.share) if first else ("gray", 0.35)
    return [
        {"target": "north", "kind": kind, "share": share, "from_s": FAULT_FROM_S, "to_s": FAULT_TO_S},
        {"target": "server", "kind": "kill_server", "share": 1.0, "from_s": KILL_AT_S, "to_s": KILL_AT_S},
    ]


def _compare(
    payments: list[Payment],
    attempts: dict[Any, tuple[Attempt, ...]],
    books: dict[str, dict[str, Any]],
    asked: set[str],
) -> tuple[int, int, list[str]]:
    """Return (payments charged twice for good, money lost in minor units, what is wrong in words)."""
    kept = Counter[str]()
    for provider in books.values():
        for charge in provider["charges"]:
            kept[charge["reference"]] += charge["kept_minor"]
    double = lost = 0
    count = Counter(p.asked.reference for p in payments)
    findings = [f"{one} was opened {count[one]} times" for one in sorted(asked) if count[one] > 1]
    for payment in payments:
        charges = [kept.pop(one.reference, 0) for one in attempts[payment.id]]
        due = payment.captured_minor if payment.state is PaymentState.SUCCEEDED else 0
        double += sum(minor > 0 for minor in charges) > 1
        if sum(charges) != due:
            lost += abs(sum(charges) - due)
            findings.append(f"{public('pay', payment.id)}: providers keep {sum(charges)} where {due} is due")
    strays = {reference: minor for reference, minor in kept.items() if minor}
    if strays:
        lost += sum(strays.values())
        findings.append(f"providers keep money for nothing that we know of: {strays}")
    return double, lost, findings


async def _ledger_findings(
    database: Database, platform: _Platform, books: dict[str, dict[str, Any]]
) -> list[str]:
    """Return what is wrong with the ledger: by its own proof, and against what providers hold for us."""
    proof = await asyncio.to_thread(verify, database_dsn(None, platform.data))
    findings = [finding.words for finding in proof.findings]
    ledger = PostgresLedger(database)
    for name in RAILS:
        account = chart.rail(name, ASSET).number
        balance = (await ledger.balances([account])).get(account)
        owes = 0 if balance is None else -balance.net_minor
        totals = {code.upper(): sums for code, sums in books[name]["totals"].items()}
        keeps = totals.get(ASSET, {}).get("kept_minor", 0)
        if owes != keeps:
            findings.append(f"{name} keeps {keeps} and the ledger says that it owes us {owes}")
    return findings


def free_port() -> int:
    """Return a port that nobody uses."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command_line(pid: int) -> bytes:
    """Return the words of a process's command, each ended by a zero byte; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def below(pid: int) -> list[int]:
    """Return the processes that `pid` and its children have started."""
    try:
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [one for child in children for one in (child, *below(child))]
