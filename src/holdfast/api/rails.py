"""`/v1/rails`: how the ways of paying are doing, and where rails send their messages."""

from __future__ import annotations

from litestar import Router, get, post
from litestar.params import FromPath
from litestar.response import Response

from holdfast.api import views
from holdfast.api.errors import RailUnknown
from holdfast.api.lists import page
from holdfast.api.responses import Call, api_of, body_of, called
from holdfast.api.wire import Page, RailHealth
from holdfast.base.limits import PAGE_ROWS_MAX
from holdfast.domains.merchants import Right
from holdfast.flows import reconcile


@get("/", summary="List rails and how they are doing")
async def list_rails(request: Call) -> Page[RailHealth]:
    """List rails with what their payments of late say of them. A publishable key may ask this."""
    api, _ = await called(request, Right.SEE_HEALTH)
    measured = api.app.rail_health()

    def shown(name: str) -> RailHealth:
        traits = api.app.desk.rails[name].traits
        return RailHealth(
            name, traits.kind, list(traits.methods), list(traits.assets), views.plain(measured.get(name, {}))
        )

    return page(sorted(api.app.desk.rails), PAGE_ROWS_MAX, shown)


@post("/{rail:str}/webhook", status_code=204, summary="Take a rail's message", include_in_schema=False)
async def take_message(request: Call, rail: FromPath[str]) -> Response[None]:
    """Take a message from a rail in the rail's own format.

    Its signature is the only key, checked by its adapter.
    """
    api = api_of(request)
    verify = api.app.rail_verifiers.get(rail)
    if verify is None:
        raise RailUnknown
    headers = {name.lower(): value for name, value in request.headers.items()}
    event = verify(headers, body_of(request))
    if event is not None:
        await reconcile.on_rail_event(api.app.desk, rail, event)
    return Response(None, status_code=204)


routes = Router("/v1/rails", route_handlers=[list_rails, take_message], tags=["Rails"])
