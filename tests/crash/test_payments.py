"""Kill -9 of server and worker at random moments under load: every payment ends right with no help.

A whole `holdfast up` runs; clients pay over HTTP and repeat what got no answer with the same key; the
providers lose answers and fail half-way; a killer ends a process of the server or the worker every few
seconds. Then everybody stops, and within the promise every payment has ended by itself, and three books
agree: the payments, the ledger, the providers' own.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from holdfast.base import ids
from holdfast.domains.ledger.verify import verify
from holdfast.flows import chart, demo
from holdfast.platform.postgres import database_dsn
from tests.support.machine import Up
from tests.support.waiting import until

RAILS = ("north", "south", "harbour")
CARDS = ("pm_card_visa", "pm_card_mastercard", "pm_card_jcb", "pm_card_visa_chargeDeclinedInsufficientFunds")
PATIENCE_S = 45.0
SUCCEEDED_MIN = 16
"""More than so many payments are to succeed, or the test has seen too little."""
SETTLED_WITHIN_S = 150.0
FAULTS: tuple[dict[str, Any], ...] = (
    {"instance": "north", "fault": "lost", "share": 0.08},
    {"instance": "north", "fault": "error_after", "share": 0.05},
    {"instance": "south", "fault": "error_before", "share": 0.08},
    {"instance": "south", "fault": "slow", "share": 0.2, "latency_ms": 700},
    {"instance": "south", "fault": "webhook_duplicate", "share": 0.3},
    {"instance": "harbour", "fault": "lost", "share": 0.1},
)


@dataclass
class Answers:
    """What the clients were told, by the key that they asked with."""

    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    broken: int = 0

    def of_both_kinds(self) -> bool:
        """Whether payments succeeded and failed, as the test asks for."""
        states = Counter(payment["state"] for payment in self.told.values())
        return states["succeeded"] > SUCCEEDED_MIN and states["failed"] > 0


@pytest.fixture
def up() -> Iterator[Up]:
    """A running Holdfast with demonstration data."""
    place = Path(tempfile.mkdtemp(prefix="holdfast-crash-"))
    place.chmod(0o755)
    it = Up(place / "data")
    try:
        it.until("Open http://127.0.0.1:")
        yield it
    finally:
        it.end()
        for name in ("server", "worker"):  # shown when the test fails
            log = (place / "data" / "logs" / f"{name}.log").read_text(errors="replace").splitlines()
            print(f"--- {name}", *[line for line in log if '"event":"request"' not in line][-80:], sep="\n")
        shutil.rmtree(place, ignore_errors=True)


def asked(chance: random.Random, key: str) -> dict[str, Any]:
    """Draw a payment: from the balance, by card, by card with a bank behind it, or absorbed by the wallet."""
    body: dict[str, Any] = {
        "amount": {"asset": "CNY", "amount_minor": chance.randint(100, 5_000)}, "reference": key,
    }  # fmt: skip
    way = chance.random()
    payer = ids.public("pyr", demo.PAYER)
    if way < 0.4:
        return body | {"guest": {"token": chance.choice(CARDS), "kind": "card"}}
    if way < 0.8:
        return body | {"payer": payer}
    return body | {"payer": payer, "funding": "absorb"}


async def client(
    up: Up, http: aiohttp.ClientSession, chance: random.Random, answers: Answers, over: asyncio.Event
) -> None:
    """Pay again and again. What gets no answer is repeated with the same key, until it gets one."""
    while not over.is_set():
        key = f"{chance.getrandbits(64):016x}"
        body = asked(chance, key)
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            try:
                async with http.post(
                    f"http://127.0.0.1:{up.port}/v1/payments", json=body, headers={"Idempotency-Key": key}
                ) as reply:
                    said = await reply.json()
                    if reply.status in (200, 201, 202, 402):
                        answers.told[key] = said["payment"] if reply.status == 402 else said
                        break
                    if reply.status in (409, 429, 503):
                        answers.refused[str(said.get("code", reply.status))] += 1
                    else:
                        raise AssertionError(f"{reply.status}: {said}")
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                answers.broken += 1
            await asyncio.sleep(chance.uniform(0.05, 0.3))


VICTIMS = ("serve", "inner", "worker")


async def killer(
    up: Up,
    chance: random.Random,
    seconds: float,
    kills: Counter[str],
    answers: Answers,
    over: asyncio.Event,
) -> None:
    """Kill the server, its inner process, or the worker, at random moments; the parent starts it again.

    Goes on for so many seconds, and until the kills and the answers that the test asks for are there, but no
    longer than four times that. Then it sets `over`.
    """
    started_s = time.monotonic()
    bag: list[str] = []
    while (past_s := time.monotonic() - started_s) < 4 * seconds:
        if past_s >= seconds and enough(kills, seconds) and answers.of_both_kinds():
            break
        await asyncio.sleep(chance.uniform(1.5, 4.0))
        bag = bag or chance.sample(VICTIMS, len(VICTIMS))
        victim = bag[-1]
        with suppress(AssertionError, OSError, IndexError, ValueError):
            pid = up.pid_of("worker" if victim == "worker" else "serve")
            if victim == "inner":
                pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
            os.kill(pid, signal.SIGKILL)
            kills[victim] += 1
            bag.pop()
    over.set()


def enough(kills: Counter[str], seconds: float) -> bool:
    """Whether each process was killed, and one every eight seconds."""
    return all(kills[victim] for victim in VICTIMS) and sum(kills.values()) >= seconds / 8


async def load(
    up: Up, chance: random.Random, *, seconds: float, clients: int
) -> tuple[Answers, Counter[str]]:
    """Pay and kill for so many seconds, or longer when the machine is slow to start what was killed."""
    answers, kills = Answers(), Counter[str]()
    headers = {"Authorization": f"Bearer {demo.API_KEY.reveal()}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=20)) as http:
        for fault in FAULTS:
            async with http.post(f"http://127.0.0.1:{up.sandbox_port}/_control/faults", json=fault) as reply:
                assert reply.status == 201, await reply.text()
        over = asyncio.Event()
        own = [random.Random(chance.getrandbits(64)) for _ in range(clients + 1)]
        await asyncio.gather(
            killer(up, own[-1], seconds, kills, answers, over),
            *(client(up, http, each, answers, over) for each in own[:-1]),
        )
        async with http.delete(f"http://127.0.0.1:{up.sandbox_port}/_control/faults") as reply:
            assert reply.status == 200
    return answers, kills


def rows(connection: psycopg.Connection[Any], sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql.encode()).fetchall()


def unsettled(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Return what is still under way, with what is known of it."""
    return rows(
        connection,
        """select p.id, p.reference, p.state, p.next_step_at - now(), p.lease_until - now(),
               (select array_agg(concat_ws(' ', a.rail, a.state, a.code, a.next_at - now()) order by a.seq)
                from payments.attempts a where a.payment_id = p.id)
           from payments.payments p
           where p.state not in ('succeeded', 'failed', 'canceled') or p.next_step_at is not null
           union all select id, payment_id::text, state, null, null, null from payments.refunds
           where state in ('sending', 'pending')""",
    )


def stuck(connection: psycopg.Connection[Any]) -> str:
    """Tell the story of the first few that do not end."""
    left = unsettled(connection)
    lines = [f"{len(left)} in all"]
    for payment in left[:3]:
        lines.append(str(payment))
        told = connection.execute(
            "select at, event, words from payments.journal where payment_id = %s order by position",
            (payment[0],),
        )
        lines += [f"    {at:%H:%M:%S.%f} {event}: {words}" for at, event, words in told]
    return "\n".join(lines)


async def providers(up: Up) -> dict[str, dict[str, Any]]:
    """Return the providers' own books."""
    found = {}
    async with aiohttp.ClientSession() as http:
        for name in RAILS:
            async with http.get(f"http://127.0.0.1:{up.sandbox_port}/_control/ledger/{name}") as reply:
                found[name] = await reply.json()
    return found


def check_payments(
    connection: psycopg.Connection[Any], answers: Answers, books: dict[str, dict[str, Any]]
) -> None:
    """Each answer stands, each key paid at most once, and what providers kept is what the payments say."""
    payments = {
        row[1]: row
        for row in rows(
            connection, "select id, reference, state, captured_minor, refunded_minor from payments.payments"
        )
    }
    assert len(payments) == rows(connection, "select count(*) from payments.payments")[0][0], (
        "a key paid twice"
    )
    for key, told in answers.told.items():
        assert key in payments, f"an acknowledged payment is lost: {told}"
        if told["state"] in ("succeeded", "failed", "canceled"):
            assert payments[key][2] == told["state"], f"a final answer changed: {told}, now {payments[key]}"
    kept = {charge["reference"]: charge["kept_minor"] for name in RAILS for charge in books[name]["charges"]}
    by_payment: Counter[Any] = Counter()
    tried: dict[Any, list[tuple[Any, ...]]] = {}
    for payment, *attempt in rows(
        connection,
        "select payment_id, reference, rail, state, captured_minor from payments.attempts order by seq",
    ):
        by_payment[payment] += kept.get(attempt[0], 0)
        tried.setdefault(payment, []).append((*attempt, kept.pop(attempt[0], None)))
    assert not {ref: minor for ref, minor in kept.items() if minor}, (
        "a provider kept money for nothing we know of"
    )
    for id_, reference, state, captured, refunded in payments.values():
        story = f"{reference} {state}, {captured} captured, {refunded} refunded; attempts: {tried.get(id_)}"
        outside = [one for one in tried.get(id_, []) if one[1] != "book"]
        for _, _, attempt_state, minor, held in outside:
            assert (held or 0) == (minor if attempt_state == "captured" else 0), (
                f"otherwise at the provider: {story}"
            )
        if state != "succeeded":
            assert (captured, by_payment[id_]) == (0, 0), f"money was kept: {story}"
        elif any(one[2] == "captured" for one in outside):
            assert by_payment[id_] == captured - refunded, f"kept otherwise than said: {story}"


def check_ledger(connection: psycopg.Connection[Any], dsn: str, books: dict[str, dict[str, Any]]) -> None:
    """The ledger proves itself, nothing is in doubt, and what rails owe us is what they hold for us."""
    report = verify(dsn)
    assert report.sound, report.findings
    assert report.transfers > 0
    for name in RAILS:
        owed = owed_by(connection, chart.rail(name, "CNY").number)
        held = books[name]["totals"].get("cny", books[name]["totals"].get("CNY", {})).get("kept_minor", 0)
        assert owed == [(held, 0, 0)], f"{name} holds {held} for us, our books say {owed}"
    assert owed_by(connection, chart.in_doubt("CNY").number) == [(0, 0, 0)]


def owed_by(connection: psycopg.Connection[Any], account: int) -> list[tuple[Any, ...]]:
    """Debits less credits of an account, and what is pending on each side, added up from its transfers."""
    return rows(
        connection,
        f"""with t as (
            select debit = {int(account)} as debited,
                   case when kind in (0, 2) then amount else 0 end as posted,
                   case kind when 0 then 0 when 1 then amount else -held end as pending
            from ledger.transfers where {int(account)} in (debit, credit)
        )
        select coalesce(sum(case when debited then posted else -posted end), 0)::bigint,
               coalesce(sum(pending) filter (where debited), 0)::bigint,
               coalesce(sum(pending) filter (where not debited), 0)::bigint from t""",
    )


def survive(up: Up, *, seconds: float, clients: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    answers, kills = asyncio.run(load(up, random.Random(seed), seconds=seconds, clients=clients))
    dsn = database_dsn(None, up.output.with_suffix(""))
    with psycopg.connect(dsn, autocommit=True) as connection:
        try:
            until(
                lambda: not unsettled(connection), "it ends by itself", within_s=SETTLED_WITHIN_S, every_s=0.5
            )
        except AssertionError:
            pytest.fail(f"still under way after {SETTLED_WITHIN_S:g} s:\n{stuck(connection)}")
        books = asyncio.run(providers(up))
        states = Counter(row[0] for row in rows(connection, "select state from payments.payments"))
        print(f"{len(answers.told)} answered, {answers.broken} broken, {answers.refused}, {states}, {kills}")
        for name in RAILS:
            assert books[name]["charged_twice"] == [], f"{name} charged twice"
        check_payments(connection, answers, books)
        check_ledger(connection, dsn, books)
        announced = rows(
            connection,
            """select count(*) - count(distinct subject) from outbox.events
               where type = 'payment.succeeded'""",
        )
        assert announced == [(0,)], "a success was announced twice"
    assert enough(kills, seconds), kills
    assert states["succeeded"] > SUCCEEDED_MIN
    assert states["failed"] > 0


@pytest.mark.timeout(400)
def test_killed_at_random_moments_under_load_every_payment_ends_right_with_no_help(up: Up) -> None:
    survive(up, seconds=25.0, clients=8)


@pytest.mark.soak
@pytest.mark.timeout(3_000)
def test_killed_for_twenty_minutes_every_payment_ends_right_with_no_help(up: Up) -> None:
    survive(up, seconds=1_200.0, clients=16)
