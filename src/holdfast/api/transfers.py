"""`/v1/transfers`: money from one balance to another."""

from __future__ import annotations

from litestar import Router, post
from litestar.params import JSONBody
from litestar.response import Response

from holdfast.api import views
from holdfast.api.accounts import own_account
from holdfast.api.context import Reply, reply
from holdfast.api.once import InProgress, Ticket, Wish, once, ticket
from holdfast.api.responses import Call, OnceKey, body_of, called, send
from holdfast.api.sealing import Written, sealed
from holdfast.api.transfer_batches import create_transfers
from holdfast.api.wire import TransferAsked, TransferShown
from holdfast.base.ids import TransferId, public
from holdfast.base.money import Money, asset
from holdfast.domains.ledger.model import Posting
from holdfast.domains.merchants import Right
from holdfast.domains.payments.errors import TransferRefused
from holdfast.flows import transfer as flow
from holdfast.platform.unit import Guard, Write


@post("/", status_code=201, summary="Move money between balances")
async def create_transfer(
    request: Call, data: JSONBody[TransferAsked], idempotency_key: OnceKey = None
) -> Response[TransferShown]:
    """Move money at once, between payers of yours or between one of them and your own balance."""
    api, caller = await called(request, Right.MOVE_MONEY)
    held = ticket(caller, idempotency_key, "POST /v1/transfers", body_of(request))
    id_ = TransferId(api.app.ids.new())
    money = Money(asset(data.amount.asset), data.amount.amount_minor)
    said = reply(
        201,
        TransferShown(
            public("tr", id_),
            "transfer",
            data.source,
            data.destination,
            views.amount(money),
            data.reference,
            api.now(),
        ),
    )

    async def do(claim: Guard, mine: Ticket) -> Reply:
        def answer(_: Posting) -> tuple[Write, ...]:
            return (mine.answer(said),)

        source = await own_account(api, caller, data.source, money.asset)
        destination = await own_account(api, caller, data.destination, money.asset)
        await api.app.desk.open((source, destination))
        said_beside = {"reference": data.reference} if data.reference else {}
        [metadata] = await sealed(api, [Written(id_, data.source, data.destination, said_beside)])
        await flow.transfer(
            api.app.desk,
            source.code,
            destination.code,
            money,
            id=id_,
            metadata=metadata,
            claim=claim,
            answer=answer,
        )
        return said

    async def resume(subject: str, stale: bool) -> Reply:
        """Transfer and answer commit together: a claim without an answer is of a refused transfer."""
        if not stale:
            raise InProgress
        raise TransferRefused(transfer=subject)

    return send(await once(api, held, public("tr", id_), Wish(do, resume)))


routes = Router("/v1/transfers", route_handlers=[create_transfer, create_transfers], tags=["Transfers"])
