"""The rail that is our own ledger: a payer's balance, held and captured like any card.

It always knows the answer.

Money goes from the payer to `rail:book:<ASSET>` and from there, like any rail's, to the merchant: that
account is zero when nothing is under way. An order's token names the payer. Transfer ids follow from the
attempt's reference, so that a repetition moves once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

from holdfast.base.errors import OutcomeUnknown, Unavailable
from holdfast.base.ids import PayerId, TransferId, parse
from holdfast.base.money import ASSETS, Money
from holdfast.domains.ledger.model import NewAccount, NewTransfer, Outcome, Posting, TransferKind
from holdfast.domains.ledger.ports import Ledger
from holdfast.domains.payments.ports import Answer, FenceClass, Op, Order, RailTraits, Said

_HOLD, _TAKE, _RELEASE, _RETURN = range(21, 25)
_SPREAD: Final = 0x9E3779B97F4A7C15
_LOW_62: Final = (1 << 62) - 1
_KEY_LIFE_S: Final = 10 * 365 * 86_400

_TIMEOUT_S: Final = 4.0
"""Longest commit that a payment waits for."""

TRAITS: Final = RailTraits(
    name="book",
    kind="balance",
    fence=FenceClass.F4,
    one_step=False,
    replay_key_s=_KEY_LIFE_S,
    methods=("balance",),
    assets=tuple(ASSETS),
    timeout_s=_TIMEOUT_S,
)


class BookRail:
    """Implements `Rail`. `payer` and `clearing` give the accounts of the chart."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        payer: Callable[[PayerId, str], NewAccount],
        clearing: Callable[[str, str], NewAccount],
    ) -> None:
        self._ledger = ledger
        self._payer = payer
        self._clearing = clearing

    @property
    def traits(self) -> RailTraits:
        """It holds and captures separately, and its keys never die."""
        return TRAITS

    async def send(self, order: Order) -> Answer:
        """Carry out `order.op`."""
        try:
            match order.op:
                case Op.AUTHORIZE:
                    return await self._authorize(order)
                case Op.CAPTURE:
                    return await self._capture(order)
                case Op.CANCEL:
                    return await self._cancel(order)
                case Op.REFUND:
                    return await self._refund(order)
                case Op.QUERY:
                    return await self._query(order)
        except Unavailable as error:
            return Answer(Said.NOT_DONE, code=error.code, message=error.message)
        except OutcomeUnknown as error:
            return Answer(Said.UNKNOWN, code=error.code, message=error.message)

    async def _authorize(self, order: Order) -> Answer:
        posting = await self._post(order, _HOLD, order.amount.amount_minor, "pending")
        if posting.outcome.moved:
            return Answer(Said.AUTHORIZED, amount=Money(order.amount.asset, posting.amount_minor))
        funds = posting.outcome in (Outcome.EXCEEDS_CREDITS, Outcome.ID_ALREADY_REFUSED)
        message = "The balance does not cover it." if funds else "The balance cannot be used."
        code = "insufficient_funds" if funds else posting.outcome.name.lower()
        return Answer(Said.DECLINED, code=code, message=message, payer_fault=True)

    async def _capture(self, order: Order) -> Answer:
        posting = await self._post(order, _TAKE, order.amount.amount_minor, "post_pending")
        if posting.outcome.moved:
            return Answer(Said.CAPTURED, amount=Money(order.amount.asset, posting.amount_minor))
        if posting.outcome is Outcome.PENDING_ALREADY_POSTED:
            return await self._query(order)
        return Answer(Said.CANCELED, code=posting.outcome.name.lower())

    async def _cancel(self, order: Order) -> Answer:
        posting = await self._post(order, _RELEASE, None, "void_pending")
        if posting.outcome is Outcome.PENDING_ALREADY_POSTED:
            return await self._query(order)
        if posting.outcome is Outcome.PENDING_NOT_FOUND:
            return Answer(Said.NOT_FOUND)
        return Answer(Said.CANCELED)

    async def _refund(self, order: Order) -> Answer:
        transfer = NewTransfer(
            _derived(order, _RETURN),
            self._clearing("book", order.amount.asset.code).number,
            self._account(order).number,
            order.amount.asset.code,
            order.amount.amount_minor,
        )
        posting = (await self._ledger.post([transfer]))[0]
        if posting.outcome.moved:
            return Answer(Said.REFUNDED, refunded_minor=order.amount.amount_minor)
        return Answer(Said.DECLINED, code=posting.outcome.name.lower())

    async def _query(self, order: Order) -> Answer:
        returned = await self._found(order, _RETURN)
        if returned is not None:
            return Answer(Said.REFUNDED, refunded_minor=returned.amount_minor)
        taken = await self._found(order, _TAKE)
        if taken is not None:
            return Answer(Said.CAPTURED, amount=Money(order.amount.asset, taken.amount_minor))
        if await self._found(order, _RELEASE) is not None:
            return Answer(Said.CANCELED)
        held = await self._found(order, _HOLD)
        if held is not None:
            return Answer(Said.AUTHORIZED, amount=Money(order.amount.asset, held.amount_minor))
        return Answer(Said.NOT_FOUND)

    async def _found(self, order: Order, purpose: int) -> Posting | None:
        id_ = _derived(order, purpose)
        posting = (await self._ledger.find([id_])).get(id_)
        return posting if posting is not None and posting.outcome.moved else None

    async def _post(
        self, order: Order, purpose: int, amount_minor: int | None, kind: TransferKind
    ) -> Posting:
        asset = order.amount.asset.code
        transfer = NewTransfer(
            _derived(order, purpose),
            self._account(order).number,
            self._clearing("book", asset).number,
            asset,
            amount_minor,
            kind,
            None if kind == "pending" else _derived(order, _HOLD),
        )
        return (await self._ledger.post([transfer]))[0]

    def _account(self, order: Order) -> NewAccount:
        return self._payer(PayerId(parse("pyr", order.token)), order.amount.asset.code)


def _derived(order: Order, purpose: int) -> TransferId:
    """Return the id of the one transfer that this attempt causes for `purpose`."""
    return TransferId(UUID(int=parse("att", order.reference).int ^ (purpose * _SPREAD & _LOW_62)))
