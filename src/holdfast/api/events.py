"""`/v1/events`: what happened, newest first; the same events that webhooks deliver."""

from __future__ import annotations

from typing import Annotated

from litestar import Router, get
from litestar.params import FromPath, QueryParameter

from holdfast.api import views
from holdfast.api.errors import NotFound
from holdfast.api.lists import LIMIT, After, Limit, cursor, page
from holdfast.api.responses import Call, called
from holdfast.api.wire import EventShown, Page
from holdfast.base.ids import parse
from holdfast.domains.merchants import Right
from holdfast.flows.reactions import EVENT_TYPES
from holdfast.platform import outbox


@get("/", summary="List events, newest first")
async def list_events(
    request: Call,
    limit: Limit = LIMIT,
    after: After = None,
    kind: Annotated[
        str | None, QueryParameter(name="type", max_length=60, description="Only of this type.")
    ] = None,
) -> Page[EventShown]:
    """List the caller's events."""
    api, caller = await called(request, Right.READ)
    rows = await outbox.listing(
        api.app.database, caller.merchant.id, after=cursor("evt", after), limit=limit + 1, type=kind
    )
    return page(rows, limit, views.event)


@get("/{event_id:str}", summary="Show an event")
async def show_event(request: Call, event_id: FromPath[str]) -> EventShown:
    """Show one event."""
    api, caller = await called(request, Right.READ)
    found = await outbox.find(api.app.database, caller.merchant.id, parse("evt", event_id))
    if found is None:
        raise NotFound("There is no such event.")
    return views.event(found)


@get("/v1/event_types", summary="List event types")
async def list_types() -> Page[str]:
    """List the types of event that there are."""
    return Page(list(EVENT_TYPES), has_more=False)


routes = Router(
    "/",
    route_handlers=[
        Router("/v1/events", route_handlers=[list_events, show_event]),
        list_types,
    ],
    tags=["Events"],
)
