"""Finding out: payments that are due, messages from rails, and their settlement files.

Any worker may take over any payment whose lease has run out: all that is needed is in the rows. So it does not matter who dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from holdfast.base.errors import HoldfastError, OutcomeUnknown, Unavailable
from holdfast.domains.ledger.model import Unit
from holdfast.domains.payments import store
from holdfast.domains.payments.model import Attempt, AttemptState, Case, Evidence
from holdfast.domains.payments.ports import RailEvent, Said, SettlementRow
from holdfast.domains.payments.rules.actions import Send, Wait
from holdfast.domains.payments.rules.cascade import decide
from holdfast.domains.payments.rules.evidence import Heard
from holdfast.domains.payments.rules.lifecycle import GONE
from holdfast.flows import book
from holdfast.flows.carry import Carrier
from holdfast.flows.desk import Desk
from holdfast.flows.draft import Draft
from holdfast.flows.news import News, learn_news
from holdfast.flows.settle import settle

_TRIES: Final = 8
_WORKER_PATIENCE_S: Final = 0.3


async def resolve_due(desk: Desk, *, limit: int = 100) -> int:
    """Take over payments that are due, carry each one on as far as it goes now, and return how many there were.

    Never raises for a single payment: what cannot be done now is due again once its lease has run out. Raises: `Unavailable`.
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
        await Carrier(desk, Draft(desk, case), patience_s=_WORKER_PATIENCE_S).run()
    except (Unavailable, OutcomeUnknown):
        return
