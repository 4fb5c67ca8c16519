"""Filling a balance from a card or an account: a payment like any other, whose money is the payer's own."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.base.ids import MerchantId, PayerId, PaymentId
from holdfast.base.money import Money
from holdfast.domains.ledger.model import NewTransfer
from holdfast.domains.payments.model import Method, NewPayment, Payment, PaymentState
from holdfast.flows import chart, pay
from holdfast.flows.desk import Desk
from holdfast.platform.unit import Guard, Write


async def top_up(
    desk: Desk,
    payer_id: PayerId,
    amount: Money,
    methods: tuple[Method, ...],
    *,
    merchant_id: MerchantId,
    live: bool | None = None,
    id: PaymentId | None = None,  # noqa: A002 - the field's own word
    reference: str = "",
    claim: Guard | None = None,
    answer: Callable[[Payment], tuple[Write, ...]] | None = None,
) -> Payment:
    """Charge one of `methods` (never a balance) and credit the payer's balance; `merchant_id` is who is told.

    What the payer owes from a time when the wallet paid ahead is settled first. Raises: as `pay.create`.
    """
    asked = NewPayment(
        merchant_id, payer_id, amount, methods, reference=reference, live=live, purpose="top_up"
    )
    payment = await pay.create(desk, asked, id=id, claim=claim, answer=answer)
    if payment.state is PaymentState.SUCCEEDED:
        await settle_debt(desk, payment)
    return payment


async def settle_debt(desk: Desk, payment: Payment) -> int:
    """Pay from the balance that `payment` filled what the payer owes, as far as it goes; minor units.

    Once per payment.
    """
    asset, payer_id = payment.asked.amount.asset.code, payment.asked.payer_id
    if payer_id is None:
        return 0
    owed, own = chart.debt(payer_id, asset), chart.payer(payer_id, asset)
    balances = await desk.ledger.balances([owed.number, own.number])
    if owed.number not in balances or own.number not in balances:
        return 0
    due = -balances[owed.number].net_minor
    amount = min(due, balances[own.number].spendable_minor)
    if amount <= 0:
        return 0
    transfer = NewTransfer(chart.transfer_id(payment.id, chart.OWED), own.number, owed.number, asset, amount)
    posting = (await desk.ledger.post([transfer]))[0]
    return posting.amount_minor if posting.outcome.moved else 0
