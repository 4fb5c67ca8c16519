"""A drill against the running platform: real processes, real sockets, a real `kill -9`.

`holdfast up` runs in a folder of its own on free ports. Payers carry what the scenario's payers carry, pay
over the HTTP API and repeat what got no answer with the same key. The scenario's faults are set in the
sandbox, squeezed into a few seconds (`live_faults.py`); in their midst the server is killed outright, at
work; its parent starts it again. When the faults are over and nothing is under way any more, three books are
compared: the payments, the ledger (which also proves itself), and the providers' own.

The oracle is simple: who pays carries an instrument that some provider takes, no account is empty, and no
fault lasts as long as a payer waits (`DEADLINE_S`). So every payment can be completed, and counts.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final
from uuid import uuid4

import aiohttp

from holdfast.base.ids import public
from holdfast.domains.ledger import queries
from holdfast.domains.ledger.verify import verify
from holdfast.domains.merchants import MerchantRules, Merchants
from holdfast.domains.payments.model import Attempt, Payment, PaymentState
from holdfast.domains.payments.store import PostgresBook
from holdfast.drills import judge, live_faults
from holdfast.drills.draw import NEVER
from holdfast.drills.live_faults import PROVIDERS, LiveFault
from holdfast.drills.live_platform import LiveDrillError, Platform, until_ready
from holdfast.drills.scenario import Scenario
from holdfast.flows import chart, demo
from holdfast.platform.db import Database
from holdfast.platform.postgres import database_dsn

__all__ = ["LiveDrillError", "live_drill"]

Figures = dict[str, object]
Tell = Callable[[str], None]

PAYERS: Final = 6
PAYMENTS_PER_S: Final = 8.0
"""Payments come at this rate, whether or not those before them have ended; it bounds the drill's load."""
FAULT_FROM_S: Final = 3.0
KILL_AT_S: Final = 4.5
"""Early amid the faults: what the server had in hand is only taken over when its lease has run out."""
FAULT_TO_S: Final = 11.0
PAY_UNTIL_S: Final = 15.0
DEADLINE_S: Final = 30.0
"""How long a payer waits: far longer than all faults together, so that each payment can be completed."""
SETTLE_WITHIN_S: Final = 180.0
ASSET: Final = "CNY"
TOKENS: Final = {"card": ("pm_card_visa", "pm_card_mastercard"), "bank": ("HB-0001-OK",)}


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


@dataclass(frozen=True, slots=True)
class _Stage:
    """What everybody in one drill needs. `began`: when the payers began, on the monotonic clock."""

    scenario: Scenario
    seed: int
    platform: Platform
    http: aiohttp.ClientSession
    faults: tuple[LiveFault, ...]
    run: _Run
    began: float
    tell: Tell

    def now_s(self) -> float:
        return time.monotonic() - self.began

    async def until(self, at_s: float) -> None:
        await asyncio.sleep(at_s - self.now_s())


def live_drill(scenario: Scenario, *, seed: int | None = None, tell: Tell = lambda _words: None) -> Figures:
    """Run the live drill and return its report, with the keys of a simulated one.

    Raises: `LiveDrillError` when the platform does not start or does not come to rest.
    """
    platform = Platform()
    try:
        return asyncio.run(_drill(platform, scenario, scenario.seed if seed is None else seed, tell))
    finally:
        platform.end()


async def _drill(platform: Platform, scenario: Scenario, seed: int, tell: Tell) -> Figures:
    headers = {"Authorization": f"Bearer {demo.API_KEY.reveal()}"}
    timeout = aiohttp.ClientTimeout(total=40)
    everybody = aiohttp.TCPConnector(limit=0)  # all payers may wait at once, and the faults wait for nobody
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=everybody) as http:
        await until_ready(platform, http)
        database = Database(database_dsn(None, platform.data))
        await database.open()
        try:
            await _prefer(database, live_faults.rail_order(scenario))
            wallets = [await _enrol(platform, http, number) for number in range(PAYERS)]
            tell("Payers pay; the trouble begins shortly")
            faults = live_faults.live_faults(scenario, from_s=FAULT_FROM_S, to_s=FAULT_TO_S)
            stage = _Stage(scenario, seed, platform, http, faults, _Run(), time.monotonic(), tell)
            sales = _sales(scenario, seed, wallets)
            await asyncio.gather(_trouble(stage), *(_pay(stage, at_s, body) for at_s, body in sales))
            return await _afterwards(stage, database)
        finally:
            await database.close()


async def _prefer(database: Database, order: tuple[str, ...]) -> None:
    """Let the shop prefer the providers that the scenario's payers would come to first."""
    merchants = Merchants(database, time.monotonic, os.urandom)
    await merchants.set_rules(demo.MERCHANT, MerchantRules(rail_order=order))


@dataclass(frozen=True, slots=True)
class _Wallet:
    """A payer of the drill, with the public ids of their instruments by kind."""

    payer: str
    instruments: dict[str, str]


async def _enrol(platform: Platform, http: aiohttp.ClientSession, number: int) -> _Wallet:
    """Enrol a payer with one instrument of each kind."""
    payer = (await _post(http, platform.url("/v1/payers"), {"name": f"Drill payer {number}"}))["id"]
    made = {}
    for kind, tokens in TOKENS.items():
        body = {"kind": kind, "label": kind.capitalize(), "token": tokens[number % len(tokens)]}
        made[kind] = (await _post(http, platform.url(f"/v1/payers/{payer}/instruments"), body))["id"]
    return _Wallet(payer, made)


async def _trouble(stage: _Stage) -> None:
    """Set each fault in its time, and kill the server amid them; leave nothing broken."""
    try:
        await asyncio.gather(_kill(stage), *(_break(stage, fault) for fault in stage.faults))
    finally:
        await _delete(stage.http, stage.platform.control("/faults"))


async def _kill(stage: _Stage) -> None:
    await stage.until(KILL_AT_S)
    stage.tell("kill -9 of the server")
    stage.platform.kill_server()
    stage.run.killed_s = stage.now_s()


async def _break(stage: _Stage, fault: LiveFault) -> None:
    """Set a fault when it begins, and mend it, and only it, when it ends."""
    await stage.until(fault.from_s)
    stage.tell(f"{fault.provider} fails as {fault.rail} did: {fault.kind.value}")
    url = stage.platform.control("/faults")
    asked = [setting.document() | {"instance": fault.provider} for setting in fault.settings]
    made = [(await _post(stage.http, url, one))["id"] for one in asked]
    await stage.until(fault.to_s)
    for name in made:
        await _delete(stage.http, f"{url}/{name}")
    stage.tell(f"{fault.provider} is mended: {fault.kind.value}")


def _sales(scenario: Scenario, seed: int, wallets: list[_Wallet]) -> list[tuple[float, dict[str, Any]]]:
    """Draw who asks for what and when: (seconds, body), each as a payer of the scenario."""
    chance = Random(seed)  # noqa: S311 - a drill repeats by seed
    shares = [group.share for group in scenario.payers]
    sales: list[tuple[float, dict[str, Any]]] = []
    at_s = chance.expovariate(PAYMENTS_PER_S)
    while at_s < PAY_UNTIL_S:
        wallet = chance.choice(wallets)
        kinds = live_faults.kinds(scenario, chance.choices(scenario.payers, shares)[0])
        body = {
            "amount": {"asset": ASSET, "amount_minor": chance.randint(100, 9_000)},
            "payer": wallet.payer,
            "methods": [wallet.instruments[kind] for kind in kinds],
            "funding": scenario.funding,
            "reference": f"drill-{seed}-{len(sales)}",
        }
        sales.append((at_s, body))
        at_s += chance.expovariate(PAYMENTS_PER_S)
    return sales


async def _pay(stage: _Stage, at_s: float, body: dict[str, Any]) -> None:
    """One payment: what gets no answer is asked again with the same key, as a careful client does."""
    await stage.until(at_s)
    http, platform, run, key = stage.http, stage.platform, stage.run, body["reference"]
    sale = run.sales[key] = _Sale(stage.now_s())
    until_s = sale.asked_s + DEADLINE_S
    path, said = "", {"state": ""}
    while stage.now_s() < until_s and sale.state not in ("succeeded", "failed", "canceled"):
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
            sale.done_s = stage.now_s()
            if run.killed_s < sale.done_s:
                run.back_s = min(run.back_s, sale.done_s)
            return
        await asyncio.sleep(0.15)


async def _post(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> dict[str, Any]:
    async with http.post(url, json=body, headers={"Idempotency-Key": uuid4().hex}) as reply:
        reply.raise_for_status()
        made: dict[str, Any] = await reply.json()
        return made


async def _delete(http: aiohttp.ClientSession, url: str) -> None:
    async with http.delete(url) as reply:
        reply.raise_for_status()


async def _get(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with http.get(url) as reply:
        reply.raise_for_status()
        found: dict[str, Any] = await reply.json()
        return found


async def _afterwards(stage: _Stage, database: Database) -> Figures:
    """Wait until nothing is under way, gather the books and judge."""
    stage.tell("Waiting until nothing is under way")
    payments = await _settled(PostgresBook(database), stage.run, stage.began)
    books = {name: await _get(stage.http, stage.platform.control(f"/ledger/{name}")) for name in PROVIDERS}
    announced = await _announced(stage.platform, stage.http)
    stage.tell("Comparing the books")
    return await _judged(stage, payments, books, announced, database)


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


async def _announced(platform: Platform, http: aiohttp.ClientSession) -> Counter[str]:
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
    stage: _Stage,
    payments: list[Payment],
    books: dict[str, dict[str, Any]],
    announced: Counter[str],
    database: Database,
) -> Figures:
    """Return the figures, from the three books."""
    scenario, run = stage.scenario, stage.run
    ours = [p for p in payments if p.asked.reference in run.sales]
    book = PostgresBook(database)
    attempts = {p.id: await book.attempts(p.id) for p in ours}
    double, lost, findings = _compare(ours, attempts, books, set(run.sales))
    findings += await _ledger_findings(database, stage.platform, books)
    sales = list(run.sales.values())
    in_time = sum(sale.done_s - sale.asked_s <= DEADLINE_S for sale in sales)
    succeeded = sum(p.state is PaymentState.SUCCEEDED for p in ours)
    twice = sum(count > 1 for count in announced.values())
    reached = in_time / len(sales) if sales else 1.0
    clean = not double and not lost and not findings and not twice
    about = {name: getattr(scenario, name) for name in _ABOUT} | {
        "rails": list(PROVIDERS),
        "faults": [fault.document() for fault in stage.faults] + [_KILLED],
    }
    waits = [sale.done_s - sale.asked_s for sale in sales if sale.done_s < NEVER]
    return {
        "scenario": scenario.name, "mode": "live", "seed": stage.seed, "continuity": round(reached, 6),
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
_KILLED: Final[Figures] = {
    "target": "server", "kind": "kill_server", "share": 1.0, "from_s": KILL_AT_S, "to_s": KILL_AT_S
}  # fmt: skip


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
    database: Database, platform: Platform, books: dict[str, dict[str, Any]]
) -> list[str]:
    """Return what is wrong with the ledger: by its own proof, and against what providers hold for us."""
    proof = await asyncio.to_thread(verify, database_dsn(None, platform.data))
    findings = [finding.words for finding in proof.findings]
    for name in PROVIDERS:
        account = chart.rail(name, ASSET).number
        balance = (await queries.balances(database, [account])).get(account)
        owes = 0 if balance is None else -balance.net_minor
        totals = {code.upper(): sums for code, sums in books[name]["totals"].items()}
        keeps = totals.get(ASSET, {}).get("kept_minor", 0)
        if owes != keeps:
            findings.append(f"{name} keeps {keeps} and the ledger says that it owes us {owes}")
    return findings
