"""`/v1/webhook_endpoints`: where events are delivered, and what became of each delivery."""

from __future__ import annotations

from litestar import Router, delete, get, patch, post
from litestar.params import FromPath, JSONBody
from litestar.response import Response

from holdfast.api.context import Reply, reply
from holdfast.api.lists import LIMIT, After, Limit, cursor, page
from holdfast.api.once import InProgress, Ticket, Wish, once, ticket
from holdfast.api.responses import Call, OnceKey, body_of, called, send
from holdfast.api.wire import DeliveryShown, EndpointAsked, EndpointChange, EndpointShown, Page, SecretShown
from holdfast.base.ids import EndpointId, parse, public
from holdfast.domains.ledger.model import Unit
from holdfast.domains.merchants import Right
from holdfast.domains.payments.errors import KeyClaimed
from holdfast.domains.webhooks import Delivery, Endpoint, operations, queries
from holdfast.domains.webhooks.rules import SECRET_BYTES
from holdfast.flows.reactions import EVENT_TYPES
from holdfast.platform.unit import Guard


def shown(it: Endpoint, *, with_secret: bool = False) -> EndpointShown:
    """Show an endpoint; its secret only where it is new."""
    return EndpointShown(
        public("we", it.id),
        "webhook_endpoint",
        it.url,
        list(it.event_types),
        it.description,
        it.state == "enabled",
        it.disabled_reason,
        it.created_at,
        it.secret.reveal() if with_secret else None,
    )


def _delivery(it: Delivery) -> DeliveryShown:
    return DeliveryShown(
        public("wd", it.id),
        "webhook_delivery",
        public("we", it.endpoint_id),
        it.message_id,
        it.event_type,
        it.state,
        it.tries,
        it.next_at if it.state == "owed" else None,
        it.last_status,
        it.last_error,
        it.created_at,
    )


@post("/", status_code=201, summary="Add a webhook endpoint")
async def create_endpoint(
    request: Call, data: JSONBody[EndpointAsked], idempotency_key: OnceKey = None
) -> Response[EndpointShown]:
    """Have events delivered to an address, signed per Standard Webhooks. The secret is shown this once."""
    api, caller = await called(request, Right.MANAGE)
    held = ticket(caller, idempotency_key, "POST /v1/webhook_endpoints", body_of(request))
    id_ = EndpointId(api.app.ids.new())

    async def do(claim: Guard, mine: Ticket) -> Reply:
        await operations.check_room(api.app.database, caller.merchant.id)
        endpoint, write = operations.plan_endpoint(
            id_,
            caller.merchant.id,
            data.url,
            entropy=api.app.entropy(SECRET_BYTES),
            now=api.now(),
            description=data.description,
            event_types=data.types,
            known_types=EVENT_TYPES,
            allow_private=api.app.config.private_webhooks,
        )
        said = reply(201, shown(endpoint, with_secret=True))
        kept = reply(201, shown(endpoint))
        outcome = await api.app.lane.submit(Unit(guards=(claim,), writes=(write, mine.answer(kept))))
        if outcome.status == "conflict":
            raise KeyClaimed
        return said

    async def resume(_: str, stale: bool) -> Reply:  # noqa: ARG001 - endpoint and answer commit together
        raise InProgress

    return send(await once(api, held, public("we", id_), Wish(do, resume)))


@get("/", summary="List webhook endpoints, newest first")
async def list_endpoints(request: Call, limit: Limit = LIMIT, after: After = None) -> Page[EndpointShown]:
    """List the caller's webhook endpoints."""
    api, caller = await called(request, Right.READ)
    rows = await queries.endpoints(
        api.app.database, caller.merchant.id, after=cursor("we", after), limit=limit + 1
    )
    return page(rows, limit, shown)


@get("/{endpoint_id:str}", summary="Show a webhook endpoint")
async def show_endpoint(request: Call, endpoint_id: FromPath[str]) -> EndpointShown:
    """Show one endpoint."""
    api, caller = await called(request, Right.READ)
    return shown(await queries.endpoint(api.app.database, caller.merchant.id, parse("we", endpoint_id)))


@patch("/{endpoint_id:str}", summary="Change a webhook endpoint")
async def change_endpoint(
    request: Call, endpoint_id: FromPath[str], data: JSONBody[EndpointChange]
) -> EndpointShown:
    """Change what is given. Enabling one again sends what is owed."""
    api, caller = await called(request, Right.MANAGE)
    id_ = parse("we", endpoint_id)
    await operations.change_endpoint(
        api.app.database,
        caller.merchant.id,
        id_,
        now=api.now(),
        url=data.url,
        description=data.description,
        event_types=data.types,
        known_types=EVENT_TYPES,
        enabled=data.enabled,
        allow_private=api.app.config.private_webhooks,
    )
    return shown(await queries.endpoint(api.app.database, caller.merchant.id, id_))


@delete("/{endpoint_id:str}", summary="Delete a webhook endpoint")
async def delete_endpoint(request: Call, endpoint_id: FromPath[str]) -> None:
    """Delete an endpoint; what was owed to it is not sent."""
    api, caller = await called(request, Right.MANAGE)
    await operations.delete_endpoint(
        api.app.database, caller.merchant.id, parse("we", endpoint_id), now=api.now()
    )


@post("/{endpoint_id:str}/rotate_secret", status_code=200, summary="Give a webhook endpoint a new secret")
async def rotate_secret(request: Call, endpoint_id: FromPath[str]) -> SecretShown:
    """Make a new secret and show it this once.

    The old one signs as well for a day, so that nothing is lost.
    """
    api, caller = await called(request, Right.MANAGE)
    secret = await operations.rotate_secret(
        api.app.database,
        caller.merchant.id,
        parse("we", endpoint_id),
        entropy=api.app.entropy(SECRET_BYTES),
        now=api.now(),
    )
    return SecretShown(secret.reveal())


@get("/{endpoint_id:str}/deliveries", summary="List deliveries to a webhook endpoint, newest first")
async def list_deliveries(
    request: Call, endpoint_id: FromPath[str], limit: Limit = LIMIT, after: After = None
) -> Page[DeliveryShown]:
    """List what was or is to be delivered."""
    api, caller = await called(request, Right.READ)
    endpoint = await queries.endpoint(api.app.database, caller.merchant.id, parse("we", endpoint_id))
    rows = await queries.deliveries(
        api.app.database,
        caller.merchant.id,
        endpoint=endpoint.id,
        after=cursor("wd", after),
        limit=limit + 1,
    )
    return page(rows, limit, _delivery)


routes = Router(
    "/v1/webhook_endpoints",
    route_handlers=[
        create_endpoint,
        list_endpoints,
        show_endpoint,
        change_endpoint,
        delete_endpoint,
        rotate_secret,
        list_deliveries,
    ],
    tags=["Webhook endpoints"],
)
