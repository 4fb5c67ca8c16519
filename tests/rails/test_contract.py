"""One contract for all rails to a provider: what each failure is told as, and what the provider did."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from holdfast.adapters.rails.bank import BankRail
from holdfast.adapters.rails.stripe import StripeRail
from holdfast.base.clock import SystemClock
from holdfast.domains.payments.ports import Answer, Op, Order, Rail, Said
from holdfast.platform.http import HttpClient
from tests.rails.conftest import order, settings
from tests.support.sandbox import Sandbox
from tests.support.waiting import until

REQUESTS = {"north": ["create", "confirm"], "harbour": ["initiate"]}
"""The requests that one authorization makes."""


@dataclass(frozen=True)
class Subject:
    """A rail under test, with what is good for it and what its provider believes."""

    name: str
    rail: Rail
    good: str
    poor: str
    sandbox: Sandbox
    rail_at: Callable[..., Rail]
    """Makes another rail of the kind, at another address."""

    def authorize(self, reference: str, token: str = "", **more: Any) -> Order:
        return order(Op.AUTHORIZE, reference, token=token or self.good, **more)

    def query(self, reference: str, **more: Any) -> Order:
        return order(Op.QUERY, reference, token=self.good, **more)

    def moved(self, reference: str) -> int:
        """What the provider holds or has taken, minor units."""
        return self.sandbox.held_minor(self.name, reference) + self.sandbox.kept_minor(self.name, reference)

    def objects(self, reference: str) -> int:
        """How many charges the provider has for this reference."""
        return len(self.sandbox.ledger(self.name, reference)["charges"])

    async def settled(self, reference: str) -> Answer:
        """Ask until the provider has decided."""
        end = time.monotonic() + 10
        while True:
            answer = await self.rail.send(self.query(reference))
            if answer.said in (Said.AUTHORIZED, Said.CAPTURED, Said.DECLINED, Said.CANCELED):
                return answer
            assert time.monotonic() < end, f"{self.name} never decided: {answer}"
            await asyncio.sleep(0.02)


@pytest.fixture(params=["north", "harbour"])
def subject(request: pytest.FixtureRequest, sandbox: Sandbox, http: HttpClient) -> Subject:
    name = request.param
    kind: type[StripeRail | BankRail] = StripeRail if name == "north" else BankRail

    def rail_at(base_url: str, **more: Any) -> Rail:
        return kind(settings(name, base_url, timeout_s=10.0, **more), http, SystemClock())

    good, poor = {
        "north": ("pm_card_visa", "pm_card_chargeDeclinedInsufficientFunds"),
        "harbour": ("HB-0001-OK", "HB-0010-NOFUNDS"),
    }[name]
    return Subject(name, rail_at(sandbox.at(name)), good, poor, sandbox, rail_at)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


SUCCESS = {"north": Said.AUTHORIZED, "harbour": Said.PENDING}


async def test_a_payment_is_held_or_under_way_and_then_certain(subject: Subject) -> None:
    answer = await subject.rail.send(subject.authorize("att_1"))
    assert answer.said is SUCCESS[subject.name]
    assert answer.remote_id
    final = await subject.settled("att_1")
    assert final.said is (Said.CAPTURED if subject.rail.traits.one_step else Said.AUTHORIZED)
    assert final.amount is not None
    assert final.amount.amount_minor == 1_000
    assert subject.moved("att_1") == 1_000


async def test_the_same_request_many_times_at_once_charges_once(subject: Subject) -> None:
    same = subject.authorize("att_1")
    answers = await asyncio.gather(*(subject.rail.send(same) for _ in range(10)))
    await subject.settled("att_1")
    assert {a.said for a in answers} <= {SUCCESS[subject.name], Said.CAPTURED}
    assert len({a.remote_id for a in answers}) == 1
    assert subject.moved("att_1") == 1_000
    assert subject.objects("att_1") == 1


async def test_a_payer_without_funds_is_declined_through_no_fault_of_the_rail(subject: Subject) -> None:
    answer = await subject.rail.send(subject.authorize("att_1", subject.poor))
    assert answer.said is Said.DECLINED
    assert answer.payer_fault
    assert subject.moved("att_1") == 0
    assert (await subject.settled("att_1")).said is Said.DECLINED


async def test_a_decline_of_the_bank_without_a_reason_is_not_the_payers_fault(subject: Subject) -> None:
    subject.sandbox.fault(subject.name, "decline")
    answer = await subject.rail.send(subject.authorize("att_1"))
    assert answer.said is Said.DECLINED
    assert not answer.payer_fault
    assert subject.moved("att_1") == 0


async def test_a_reference_never_seen_is_not_found(subject: Subject) -> None:
    assert (await subject.rail.send(subject.query("att_never"))).said is Said.NOT_FOUND


async def test_an_asset_that_the_rail_does_not_take_is_not_sent(subject: Subject) -> None:
    answer = await subject.rail.send(subject.authorize("att_1", currency="POINTS"))
    assert answer.said is Said.NOT_SENT
    assert subject.objects("att_1") == 0


CERTAIN = "certain"
"""After mending, the same request ends as if nothing had happened."""

# the answer; does money move; what the same request says once all is mended
FAILURES: list[tuple[str, str, str, Said, bool, Said | str]] = [
    ("north", "refuse", "create", Said.NOT_DONE, False, CERTAIN),
    ("north", "refuse", "confirm", Said.UNKNOWN, False, CERTAIN),
    ("north", "dark", "create", Said.NOT_DONE, False, CERTAIN),
    ("north", "dark", "confirm", Said.UNKNOWN, False, CERTAIN),
    ("north", "hang", "create", Said.NOT_DONE, False, CERTAIN),
    ("north", "hang", "confirm", Said.UNKNOWN, False, CERTAIN),
    ("north", "rate_limit", "create", Said.NOT_DONE, False, CERTAIN),
    ("north", "rate_limit", "confirm", Said.NOT_DONE, False, CERTAIN),
    ("north", "bad_key", "create", Said.NOT_DONE, False, CERTAIN),
    ("north", "bad_key", "confirm", Said.NOT_DONE, False, CERTAIN),
    ("north", "error_before", "create", Said.NOT_DONE, False, CERTAIN),
    ("north", "error_before", "confirm", Said.UNKNOWN, False, CERTAIN),
    ("north", "error_after", "create", Said.NOT_DONE, False, Said.NOT_DONE),
    ("north", "error_after", "confirm", Said.UNKNOWN, True, Said.UNKNOWN),
    ("north", "lost", "create", Said.NOT_DONE, False, CERTAIN),
    ("north", "lost", "confirm", Said.UNKNOWN, True, CERTAIN),
    ("north", "mute", "create", Said.NOT_DONE, False, CERTAIN),
    ("north", "mute", "confirm", Said.UNKNOWN, True, CERTAIN),
    ("north", "wrong_amount", "create", Said.NOT_DONE, False, Said.NOT_DONE),
    ("harbour", "refuse", "initiate", Said.UNKNOWN, False, CERTAIN),
    ("harbour", "dark", "initiate", Said.UNKNOWN, False, CERTAIN),
    ("harbour", "hang", "initiate", Said.UNKNOWN, False, CERTAIN),
    ("harbour", "rate_limit", "initiate", Said.NOT_DONE, False, CERTAIN),
    ("harbour", "bad_key", "initiate", Said.NOT_DONE, False, CERTAIN),
    ("harbour", "error_before", "initiate", Said.UNKNOWN, False, CERTAIN),
    ("harbour", "error_after", "initiate", Said.UNKNOWN, True, CERTAIN),
    ("harbour", "lost", "initiate", Said.UNKNOWN, True, CERTAIN),
    ("harbour", "mute", "initiate", Said.UNKNOWN, True, CERTAIN),
]


@pytest.mark.parametrize(
    ("subject", "fault", "request_hit", "said", "moves", "mended"),
    FAILURES,
    ids=[f"{name} {fault} on {hit}" for name, fault, hit, *_ in FAILURES],
    indirect=["subject"],
)
async def test_each_failure_is_told_as_what_it_proves(
    subject: Subject, fault: str, request_hit: str, said: Said, moves: bool, mended: Said | str
) -> None:
    subject.sandbox.fault(subject.name, fault, operations=[request_hit])
    timeout_s = 1.0 if fault in ("dark", "hang", "mute") else 10.0
    sent = subject.authorize("att_1", timeout_s=timeout_s)
    began = time.monotonic()
    answer = await subject.rail.send(sent)
    assert time.monotonic() - began < timeout_s + 1, "a call ends by its deadline"
    assert answer.said is said, answer
    if moves:
        until(lambda: subject.moved("att_1") == 1_000, "the provider has done it")
    else:
        assert subject.moved("att_1") == 0
    subject.sandbox.mend()
    again = await subject.rail.send(replace(sent, deadline_at=subject.authorize("att_1").deadline_at))
    if mended is CERTAIN:
        assert again.said in (SUCCESS[subject.name], Said.CAPTURED), again
        await subject.settled("att_1")
        assert subject.moved("att_1") == 1_000
    else:
        assert again.said is mended, again
    assert subject.objects("att_1") <= 1


def test_the_table_of_failures_covers_every_failure_and_every_request() -> None:
    hit = {(name, fault, request) for name, fault, request, *_ in FAILURES}
    faults = (
        "refuse",
        "dark",
        "hang",
        "rate_limit",
        "bad_key",
        "error_before",
        "error_after",
        "lost",
        "mute",
    )
    assert {(n, f, r) for n, rs in REQUESTS.items() for r in rs for f in faults} <= hit


async def test_a_closed_door_is_not_sent(subject: Subject) -> None:
    """A provider whose port refuses connections cannot have charged: the payment may go elsewhere at once."""
    port = subject.sandbox.doors[subject.name]
    rail = subject.rail_at(f"http://127.0.0.1:{port}")
    assert (await rail.send(subject.authorize("att_0"))).said is SUCCESS[subject.name]
    subject.sandbox.fault(subject.name, "refuse")
    until(lambda: not _listens(port), "the door is closed")
    answer = await rail.send(subject.authorize("att_1"))
    assert answer.said is Said.NOT_SENT
    subject.sandbox.mend()
    until(lambda: _listens(port), "the door is open again")
    assert (await rail.send(subject.authorize("att_1"))).said is SUCCESS[subject.name]
    await subject.settled("att_1")
    assert subject.objects("att_1") == 1


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_a_provider_that_is_away_answers_not_sent_to_everything(subject: Subject) -> None:
    rail = subject.rail_at(f"http://127.0.0.1:{unused_port()}")
    for op in Op:
        answer = await rail.send(order(op, "att_1", token=subject.good))
        assert answer.said is Said.NOT_SENT, (op, answer)


async def test_the_backup_host_answers_the_same_key(subject: Subject) -> None:
    """The primary host is gone after the provider has acted; the backup host knows the payment."""
    subject.sandbox.fault(subject.name, "lost", operations=["confirm", "initiate"])
    assert (await subject.rail.send(subject.authorize("att_1"))).said is Said.UNKNOWN
    subject.sandbox.mend()
    rail = subject.rail_at(f"http://127.0.0.1:{unused_port()}", backup_url=subject.sandbox.at(subject.name))
    assert rail.traits.backup
    assert (await rail.send(subject.authorize("att_1"))).said is Said.NOT_SENT
    again = await rail.send(replace(subject.authorize("att_1"), use_backup=True))
    assert again.said in (SUCCESS[subject.name], Said.CAPTURED)
    await subject.settled("att_1")
    assert subject.objects("att_1") == 1


async def taken(subject: Subject) -> str | None:
    """Take 1,000 for att_1; return the provider's id."""
    await subject.rail.send(subject.authorize("att_1"))
    known = (await subject.settled("att_1")).remote_id
    if not subject.rail.traits.one_step:
        captured = await subject.rail.send(order(Op.CAPTURE, "att_1", remote_id=known))
        assert captured.said is Said.CAPTURED
    return known


async def test_a_refund_gives_back_once_and_never_more_than_was_taken(subject: Subject) -> None:
    known = await taken(subject)
    part = order(Op.REFUND, "att_1", amount=400, token=subject.good, remote_id=known)
    answers = await asyncio.gather(*(subject.rail.send(part) for _ in range(4)))
    assert {a.said for a in answers} <= {Said.REFUNDED, Said.PENDING}
    until(lambda: subject.sandbox.kept_minor(subject.name, "att_1") == 600, "the part arrived")
    more = await subject.rail.send(order(Op.REFUND, "att_1", amount=601, token=subject.good, remote_id=known))
    assert more.said is Said.DECLINED
    asked = await subject.rail.send(subject.query("att_1"))
    assert (asked.said, asked.refunded_minor) == (Said.CAPTURED, 400)
    await subject.rail.send(order(Op.REFUND, "att_1", amount=600, token=subject.good, remote_id=known))
    until(lambda: subject.sandbox.kept_minor(subject.name, "att_1") == 0, "all of it arrived")


async def test_a_refund_whose_answer_is_lost_is_unknown_and_the_same_key_finds_it(subject: Subject) -> None:
    known = await taken(subject)
    subject.sandbox.fault(subject.name, "lost", operations=["refund"])
    back = order(Op.REFUND, "att_1", amount=1_000, token=subject.good, remote_id=known)
    assert (await subject.rail.send(back)).said is Said.UNKNOWN
    subject.sandbox.mend()
    assert (await subject.rail.send(back)).said in (Said.REFUNDED, Said.PENDING)
    until(lambda: subject.sandbox.kept_minor(subject.name, "att_1") == 0, "it arrived")
    assert subject.sandbox.ledger(subject.name, "att_1")["charges"][0]["refunded_minor"] == 1_000


async def test_whatever_fails_no_answer_contradicts_the_providers_book(subject: Subject) -> None:
    """Many attempts under a mixture of failures: what is said to be definite is what the provider did."""
    seed = Random().randrange(2**32)
    print(f"seed {seed}")
    subject.sandbox.reset(seed=seed)
    kinds = [
        "refuse",
        "hang",
        "rate_limit",
        "error_before",
        "error_after",
        "lost",
        "mute",
        "decline",
        "bad_key",
    ]
    for kind in kinds:
        subject.sandbox.fault(subject.name, kind, share=0.08)
    references = [f"att_{number}" for number in range(120)]
    answers = await asyncio.gather(
        *(subject.rail.send(subject.authorize(reference, timeout_s=4.0)) for reference in references)
    )
    definite_no = (Said.DECLINED, Said.NOT_SENT, Said.NOT_DONE, Said.CANCELED)
    subject.sandbox.mend()
    for reference, answer in zip(references, answers, strict=True):
        if answer.said in definite_no:
            assert subject.moved(reference) == 0, (reference, answer)
        elif answer.said is Said.AUTHORIZED:
            assert subject.sandbox.held_minor(subject.name, reference) == 1_000, (reference, answer)
    assert {a.said for a in answers} >= {Said.UNKNOWN, SUCCESS[subject.name]}, "the mixture hit and missed"
    assert subject.sandbox.ledger(subject.name)["charged_twice"] == []
