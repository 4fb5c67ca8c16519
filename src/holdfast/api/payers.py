"""`/v1/payers`: who pays, and by what, in their own order."""

from __future__ import annotations

from litestar import Router, delete, get, post, put
from litestar.params import FromPath, JSONBody
from litestar.response import Response

from holdfast.api import views
from holdfast.api.context import Reply, reply
from holdfast.api.lists import LIMIT, After, Limit, cursor, page
from holdfast.api.once import claimed_first, once, ticket
from holdfast.api.payments import own_wallet
from holdfast.api.responses import Call, OnceKey, body_of, called, send
from holdfast.api.wire import InstrumentAsked, InstrumentShown, OrderAsked, Page, PayerAsked, PayerShown
from holdfast.base.ids import InstrumentId, PayerId, parse, public
from holdfast.domains.instruments import Kind
from holdfast.domains.merchants import Right


@post("/", status_code=201, summary="Enrol a payer")
async def create_payer(
    request: Call, data: JSONBody[PayerAsked], idempotency_key: OnceKey = None
) -> Response[PayerShown]:
    """Enrol somebody who pays you. They get a balance, which is their first instrument."""
    api, caller = await called(request, Right.MANAGE)
    held = ticket(caller, idempotency_key, "POST /v1/payers", body_of(request))
    subject = public("pyr", api.app.ids.new())

    async def work(made: str, _: bool) -> Reply:
        instruments = api.app.instruments
        payer = await instruments.enrol(
            parse("pyr", made), caller.merchant.id, data.name, api.now(), reference=data.reference
        )
        wallet = await instruments.wallet(payer.id)
        if not wallet.instruments:
            await instruments.add(api.app.ids.new(), payer.id, Kind.BALANCE, "Balance", api.now())
            wallet = await instruments.wallet(payer.id)
        return reply(201, views.payer(payer, live=caller.merchant.live, instruments=wallet.instruments))

    return send(await once(api, held, subject, claimed_first(api, held, subject, work)))


@get("/", summary="List payers, newest first")
async def list_payers(request: Call, limit: Limit = LIMIT, after: After = None) -> Page[PayerShown]:
    """List the caller's payers."""
    api, caller = await called(request, Right.READ)
    from_id = cursor("pyr", after)
    rows = await api.app.instruments.payers(
        caller.merchant.id, after=None if from_id is None else PayerId(from_id), limit=limit + 1
    )
    return page(rows, limit, lambda row: views.payer(row, live=caller.merchant.live))


@get("/{payer_id:str}", summary="Show a payer")
async def show_payer(request: Call, payer_id: FromPath[str]) -> PayerShown:
    """Show a payer with their instruments."""
    api, caller = await called(request, Right.READ)
    wallet = await own_wallet(api, caller, payer_id)
    return views.payer(wallet.payer, live=caller.merchant.live, instruments=wallet.instruments)


@post("/{payer_id:str}/instruments", status_code=201, summary="Add an instrument")
async def add_instrument(
    request: Call, payer_id: FromPath[str], data: JSONBody[InstrumentAsked], idempotency_key: OnceKey = None
) -> Response[InstrumentShown]:
    """Add a way of paying, as the last in the payer's order. Tokens only: card numbers are refused."""
    api, caller = await called(request, Right.MANAGE)
    held = ticket(caller, idempotency_key, f"POST {request.scope['path']}", body_of(request))
    wallet = await own_wallet(api, caller, payer_id)
    subject = public("ins", api.app.ids.new())

    async def work(made: str, _: bool) -> Reply:
        added = await api.app.instruments.add(
            parse("ins", made), wallet.payer.id, Kind(data.kind), data.label, api.now(), token=data.token
        )
        return reply(201, views.instrument(added))

    return send(await once(api, held, subject, claimed_first(api, held, subject, work)))


@put("/{payer_id:str}/instruments/order", summary="Put a payer's instruments into order")
async def order_instruments(request: Call, payer_id: FromPath[str], data: JSONBody[OrderAsked]) -> PayerShown:
    """Set the order in which a payer's instruments are used."""
    api, caller = await called(request, Right.MANAGE)
    wallet = await own_wallet(api, caller, payer_id)
    order = [InstrumentId(parse("ins", text)) for text in data.instruments]
    now = await api.app.instruments.reorder(wallet.payer.id, order)
    return views.payer(now.payer, live=caller.merchant.live, instruments=now.instruments)


@delete("/{payer_id:str}/instruments/{instrument_id:str}", summary="Remove an instrument")
async def remove_instrument(request: Call, payer_id: FromPath[str], instrument_id: FromPath[str]) -> None:
    """Remove an instrument; payments that used it keep their history."""
    api, caller = await called(request, Right.MANAGE)
    wallet = await own_wallet(api, caller, payer_id)
    await api.app.instruments.remove(wallet.payer.id, InstrumentId(parse("ins", instrument_id)), api.now())


routes = Router(
    "/v1/payers",
    route_handlers=[
        create_payer,
        list_payers,
        show_payer,
        add_instrument,
        order_instruments,
        remove_instrument,
    ],
    tags=["Payers"],
)
