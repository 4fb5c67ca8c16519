"""`/v1/refunds`: money back to the payer, never more than was captured."""

from __future__ import annotations

from litestar import Router, get, post
from litestar.params import FromPath, JSONBody
from litestar.response import Response

from holdfast.api import views
from holdfast.api.context import Reply, encode
from holdfast.api.errors import NotFound
from holdfast.api.once import InProgress, Ticket, Wish, once, ticket
from holdfast.api.payments import own_payment
from holdfast.api.responses import Call, OnceKey, body_of, called, send
from holdfast.api.wire import RefundAsked, RefundShown
from holdfast.base.ids import RefundId, parse, public
from holdfast.domains.merchants import Right
from holdfast.domains.payments.errors import RefundNotFunded
from holdfast.domains.payments.model import Refund
from holdfast.flows import refund as flow
from holdfast.platform.unit import Guard, Write


def told(refund: Refund) -> Reply:
    """Return the answer that tells how `refund` stands."""
    shown = views.refund(refund)
    if shown.next is not None:
        return Reply(202, encode(shown), retry_after_s=shown.next.ask_again_after_s)
    return Reply(201, encode(shown))


@post("/", status_code=201, summary="Refund a payment")
async def create_refund(
    request: Call, data: JSONBody[RefundAsked], idempotency_key: OnceKey = None
) -> Response[RefundShown]:
    """Give back all or part of what was captured, the way that it came."""
    api, caller = await called(request, Right.MOVE_MONEY)
    held = ticket(caller, idempotency_key, "POST /v1/refunds", body_of(request))
    payment = await own_payment(api, caller, data.payment)
    id_ = RefundId(api.app.ids.new())
    last: list[Reply] = []

    async def do(claim: Guard, mine: Ticket) -> Reply:
        def answer(refund: Refund) -> tuple[Write, ...]:
            last[:] = [told(refund)]
            return (mine.answer(last[0]),)

        made = await flow.refund(
            api.app.desk,
            payment.id,
            data.amount_minor,
            reason=data.reason,
            id=id_,
            claim=claim,
            answer=answer,
        )
        return last[0] if last else told(made)

    async def resume(subject: str, stale: bool) -> Reply:
        found = await api.app.desk.book.refund(RefundId(parse("ref", subject)))
        if not stale and (found is None or found.state == "sending"):
            raise InProgress
        if found is None:  # the key was taken by a commit whose transfers were refused
            raise RefundNotFunded
        return told(found)

    return send(await once(api, held, public("ref", id_), Wish(do, resume)))


@get("/{refund_id:str}", summary="Show a refund")
async def show_refund(request: Call, refund_id: FromPath[str]) -> RefundShown:
    """Show a refund as it stands."""
    api, caller = await called(request, Right.READ)
    found = await api.app.desk.book.refund(RefundId(parse("ref", refund_id)))
    if found is None:
        raise NotFound("There is no such refund.")
    payment = await api.app.desk.book.payment(found.payment_id)
    if payment is None or payment.asked.merchant_id != caller.merchant.id:
        raise NotFound("There is no such refund.")
    return views.refund(found)


routes = Router("/v1/refunds", route_handlers=[create_refund, show_refund], tags=["Refunds"])
