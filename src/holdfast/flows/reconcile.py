"""Finding out: payments that are due, messages from rails, and their settlement files.

Any worker may take over any payment whose lease has run out: all that is needed is in the rows. So it does
not matter who dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from holdfast.base.errors import HoldfastError, OutcomeUnknown, Unavailable
from holdfast.base.ids import public
from holdfast.base.money import Money
from holdfast.domains.ledger.model import Unit
from holdfast.domains.payments import store
from holdfast.domains.payments.errors import PaymentBusy
from holdfast.domains.payments.model import (
    Attempt,
    AttemptState,
    Case,
    Evidence,
    PaymentState,
    changed,
)
from holdfast.domains.payments.ports import RailEvent, Said, SettlementRow
from holdfast.domains.payments.rules.actions import Send
from holdfast.domains.payments.rules.cascade import decide
from holdfast.domains.payments.rules.evidence import Heard, learn
from holdfast.domains.payments.rules.lifecycle import GONE
from holdfast.flows import book
from holdfast.flows.carry import Carrier
from holdfast.flows.desk import Desk
from holdfast.flows.draft import Draft
from holdfast.flows.news import News, learn_news
from holdfast.flows.settle import settle
from holdfast.flows.top_up import settle_debt
from holdfast.platform.log import logger
from holdfast.platform.unit import Write

_log: Final = logger(__name__)
_TRIES: Final = 8
_WORKER_PATIENCE_S: Final = 0.3


async def resolve_due(desk: Desk, *, limit: int = 100) -> int:
    """Take over payments that are due, carry each on as far as it goes now; return how many.

    Never raises for a single payment: what cannot be done now is due again once its lease has run out.
    Raises: `Unavailable`.
    """
    now = desk.clock.now()
    lease_until = now + timedelta(seconds=desk.settings.lease_s)
    cases = await desk.book.claim_due(now, lease_until, limit)
    if not cases:
        return 0
    places = asyncio.Semaphore(desk.settings.resolve_together_max)

    async def one(case: Case) -> None:
        async with places:
            await _resolve(desk, case)

    await asyncio.gather(*(one(case) for case in cases))
    return len(cases)


async def _resolve(desk: Desk, case: Case) -> None:
    try:
        await desk.open(book.accounts(case.payment.asked, tuple({a.rail: None for a in case.attempts})))
        case = await Carrier(desk, Draft(desk, case), patience_s=_WORKER_PATIENCE_S).run()
        payment = case.payment
        if payment.asked.purpose == "top_up" and payment.state is PaymentState.SUCCEEDED:
            await settle_debt(desk, payment)
    except (Unavailable, OutcomeUnknown):
        return
    except HoldfastError as error:
        desk.alert("payment_not_carried_on", case.payment.id, error.message)
        _log.exception(
            "a payment was not carried on", payment=public("pay", case.payment.id), code=error.code
        )


async def on_rail_event(desk: Desk, rail: str, event: RailEvent) -> None:
    """Take in a message from a rail whose signature was checked. Repeats and old news change nothing.

    Raises: `PaymentBusy`, `Unavailable`: the rail is to send it again.
    """
    attempt = await desk.book.find_attempt(rail, event.reference, event.remote_id)
    heard = Heard(
        None,
        event.said,
        Evidence.WEBHOOK,
        event.at,
        remote_id=event.remote_id,
        code=event.code,
        message=event.message,
        amount=event.amount,
        refunded_minor=event.amount.amount_minor if event.amount and event.said is Said.REFUNDED else 0,
    )
    kept = store.add_evidence(
        rail,
        event.id,
        None if attempt is None else attempt.id,
        Evidence.WEBHOOK,
        event.said.value,
        None if event.amount is None else event.amount.amount_minor,
        event.at,
        desk.clock.now(),
    )
    if attempt is None or not await _tell(desk, attempt, heard, kept):
        await desk.lane.submit(Unit(writes=(kept,)))


async def _tell(desk: Desk, attempt: Attempt, heard: Heard, kept: Write) -> bool:
    """Apply what a rail said unasked, in one commit with `kept`.

    False: it changes nothing. Raises: `PaymentBusy`.
    """
    for _ in range(_TRIES):
        case = await desk.book.case(attempt.payment_id)
        before = None if case is None else case.attempt(attempt.id)
        if case is None or before is None:
            return False
        draft = Draft(desk, case)
        if attempt.id == case.payment.kept and heard.said in (Said.REFUNDED, Said.CANCELED):
            changed = _told_of_refund(desk, draft, before, heard)
        else:
            changed = (
                learn(before, heard, desk.traits[before.rail], desk.settings.rules, draft.now) is not before
            )
            if changed:
                learn_news(desk, draft, News(attempt.id, heard))
        if not changed:
            return False
        await desk.open(book.accounts(case.payment.asked, (before.rail,)))
        _follow(desk, draft)
        draft.writes.append(kept)
        if (await draft.commit()).status == "committed":
            return True
    raise PaymentBusy


def _follow(desk: Desk, draft: Draft) -> None:
    """What follows at once from news: whatever needs no request.

    The rest is due now, unless somebody is at work on it.
    """
    payment = draft.case.payment
    leased = payment.lease_until is not None and payment.lease_until > draft.now
    action = None if leased else decide(draft.case, desk.traits, desk.settings, draft.now)
    if action is None or isinstance(action, Send):
        book.balance_strays(draft)
        if not leased:
            draft.set(next_step_at=draft.now, lease_until=None)
    else:
        settle(desk, draft, action)


def _told_of_refund(desk: Desk, draft: Draft, attempt: Attempt, heard: Heard) -> bool:
    """A rail says how much of a kept charge it has given back so far."""
    under_way = [
        r for r in draft.case.refunds if r.state in ("sending", "pending") and r.attempt_id == attempt.id
    ]
    known = sum(r.amount.amount_minor for r in draft.case.refunds if r.state == "succeeded")
    if under_way and heard.refunded_minor >= known + under_way[0].amount.amount_minor:
        learn_news(desk, draft, News(attempt.id, heard, under_way[0].id))
        return True
    if heard.refunded_minor <= known:
        return False
    words = f"{attempt.rail} gave back {heard.refunded_minor - known} minor units that nobody here asked for"
    draft.note("alert", f"{words}. A person should look at it.", attempt)
    return True


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a settlement file showed.

    `agreed`: references that were as we knew. `corrected`: those that we knew otherwise; what is not kept
    is on its way back. `strays`: lines whose reference nobody here knows. `missing`: attempts that we
    take for charged and the file does not have.
    """

    agreed: int
    corrected: tuple[str, ...]
    strays: tuple[SettlementRow, ...]
    missing: tuple[Attempt, ...]


async def settle_from_file(
    desk: Desk,
    rail: str,
    rows: Iterable[SettlementRow],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Reconciled:
    """Compare the rail's own file with what is known, and correct what is known.

    There is no stronger evidence.

    `since` and `until` bound the attempts (by creation) for which the file is complete, long enough ago
    that no request can still be under way: what it does not list was not charged. Raises: `PaymentBusy`,
    `Unavailable`; run it again then.
    """
    sums: dict[str, list[SettlementRow]] = {}
    for row in rows:
        sums.setdefault(row.reference, []).append(row)
    agreed, corrected, strays = 0, [], []
    listed: set[str] = set()
    for reference, lines in sums.items():
        attempt = await desk.book.find_attempt(rail, reference, lines[0].remote_id)
        if attempt is None:
            strays += lines
            continue
        listed.add(attempt.reference)
        if await _settle_lines(desk, attempt, lines):
            corrected.append(reference)
        else:
            agreed += 1
        if until is not None:
            await _ask_refunds_again(desk, attempt, lines, until)
    missing: list[Attempt] = []
    if since is not None and until is not None:
        missing = await _settle_absent(desk, rail, since, until, listed, corrected)
    return Reconciled(agreed, tuple(corrected), tuple(strays), tuple(missing))


async def _settle_lines(desk: Desk, attempt: Attempt, lines: list[SettlementRow]) -> bool:
    taken = sum(line.amount.amount_minor for line in lines if line.kind == "charge")
    given = sum(line.amount.amount_minor for line in lines if line.kind == "return")
    last = lines[-1]
    back = taken and given >= taken
    amount = Money(last.amount.asset, given if back else taken)
    heard = Heard(
        None,
        Said.REFUNDED if back else Said.CAPTURED,
        Evidence.SETTLEMENT,
        last.at,
        remote_id=last.remote_id,
        amount=amount,
        refunded_minor=given,
    )
    before = attempt.state
    event_id = f"settlement:{last.remote_id or attempt.reference}:{taken}:{given}"
    now = desk.clock.now()
    said = heard.said.value
    kept = store.add_evidence(
        attempt.rail, event_id, attempt.id, Evidence.SETTLEMENT, said, amount.amount_minor, last.at, now
    )
    if not await _tell(desk, attempt, heard, kept):
        return False
    after = await desk.book.find_attempt(attempt.rail, attempt.reference, None)
    return after is not None and after.state is not before


async def _ask_refunds_again(
    desk: Desk, attempt: Attempt, lines: list[SettlementRow], until: datetime
) -> None:
    """Refunds asked for before `until` that the file, complete until then, does not list.

    They were not done.
    """
    case = await desk.book.case(attempt.payment_id)
    if case is None or case.payment.kept != attempt.id:
        return
    given = sum(line.amount.amount_minor for line in lines if line.kind == "return")
    known = sum(r.amount.amount_minor for r in case.refunds if r.state == "succeeded")
    lost = [r for r in case.refunds if r.state == "sending" and r.created_at < until]
    if not lost or given >= known + lost[0].amount.amount_minor:
        return
    draft = Draft(desk, case)
    draft.put_refund(changed(lost[0], state="pending", next_at=None, updated_at=draft.now))
    words = (
        f"The refund is not in the settlement file of {attempt.rail}: it was not done, and is asked for again"
    )
    draft.note("told", words, attempt)
    draft.set(next_step_at=draft.now)
    if (await draft.commit()).status != "committed":
        raise PaymentBusy


async def _settle_absent(
    desk: Desk, rail: str, since: datetime, until: datetime, listed: set[str], corrected: list[str]
) -> list[Attempt]:
    """Attempts of a span for which the file is complete, and which it does not list."""
    missing = []
    for attempt in await desk.book.attempts_on(rail, since, until):
        if attempt.reference in listed:
            continue
        if attempt.state in (AttemptState.CAPTURED, AttemptState.RETURNING):
            missing.append(attempt)
        elif desk.traits[rail].one_step and attempt.state not in GONE:
            now = desk.clock.now()
            heard = Heard(
                None, Said.CANCELED, Evidence.SETTLEMENT, now, message="It is not in the settlement file."
            )
            event_id = f"settlement:{attempt.reference}:absent"
            kept = store.add_evidence(
                rail, event_id, attempt.id, Evidence.SETTLEMENT, "canceled", None, now, now
            )
            if await _tell(desk, attempt, heard, kept):
                corrected.append(attempt.reference)
    return missing
