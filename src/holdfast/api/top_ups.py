"""`/v1/top_ups`: money into a payer's balance from their own cards and accounts."""

from __future__ import annotations

from litestar import Router, post
from litestar.params import JSONBody
from litestar.response import Response

from holdfast.api.context import Reply
from holdfast.api.once import Ticket, Wish, once, ticket
from holdfast.api.payments import Kept, chosen, method, own_wallet, resumed
from holdfast.api.responses import Call, OnceKey, body_of, called, send
from holdfast.api.wire import PaymentShown, TopUpAsked
from holdfast.base.ids import PaymentId, public
from holdfast.base.money import Money, asset
from holdfast.domains.instruments import Kind
from holdfast.domains.merchants import Right
from holdfast.domains.payments.errors import NoWayToPay
from holdfast.flows import top_up as flow
from holdfast.platform.unit import Guard


@post("/", status_code=201, summary="Top up a payer's balance")
async def create_top_up(
    request: Call, data: JSONBody[TopUpAsked], idempotency_key: OnceKey = None
) -> Response[PaymentShown]:
    """Charge one of a payer's own instruments and credit their balance.

    A payment whose `purpose` is `top_up`.
    """
    api, caller = await called(request, Right.MOVE_MONEY)
    held = ticket(caller, idempotency_key, "POST /v1/top_ups", body_of(request))
    id_ = PaymentId(api.app.ids.new())

    async def do(claim: Guard, mine: Ticket) -> Reply:
        wallet = await own_wallet(api, caller, data.payer)
        methods = tuple(method(i) for i in chosen(wallet, data.methods) if i.kind is not Kind.BALANCE)
        if not methods:
            raise NoWayToPay("A balance is topped up from another instrument, and this payer has none.")
        kept = Kept(api, caller, mine)
        made = await flow.top_up(
            api.app.desk,
            wallet.payer.id,
            Money(asset(data.amount.asset), data.amount.amount_minor),
            methods,
            merchant_id=caller.merchant.id,
            live=caller.merchant.live,
            id=id_,
            reference=data.reference,
            claim=claim,
            answer=kept,
        )
        return await kept.reply(made)

    return send(await once(api, held, public("pay", id_), Wish(do, resumed(api, caller))))


routes = Router("/v1/top_ups", route_handlers=[create_top_up], tags=["Top-ups"])
