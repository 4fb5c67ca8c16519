"""The control API: what is going on, what to break, what to mend, and what the providers' own books say."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from holdfast.base.errors import Refused
from holdfast.sandbox import page
from holdfast.sandbox.engine import Engine, InstanceUnknown, fault_doc, state_doc
from holdfast.sandbox.faults import FaultInvalid

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
URLS_MAX: Final = 10


def control_routes(engine: Engine) -> list[web.RouteDef]:
    """Return the routes of the control API and of the page."""
    control = Control(engine)
    return [
        web.get("/", control.show_page),
        web.post("/", control.post_page),
        web.get("/_control/state", control.state),
        web.post("/_control/faults", control.set_fault),
        web.delete("/_control/faults/{id}", control.mend),
        web.delete("/_control/faults", control.mend_all),
        web.post("/_control/reset", control.reset),
        web.put("/_control/webhooks/{instance}", control.webhooks),
        web.get("/_control/ledger/{instance}", control.ledger),
        web.get("/healthz", control.health),
    ]


class Control:
    """The handlers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def health(self, _request: web.Request) -> web.StreamResponse:
        """Say that it is there."""
        return _json(200, {"status": "ok"})

    async def state(self, _request: web.Request) -> web.StreamResponse:
        """Show instances, counts, faults and the kinds there are."""
        return _json(200, state_doc(self._engine))

    async def set_fault(self, request: web.Request) -> web.StreamResponse:
        """Break something."""
        try:
            return _json(201, fault_doc(self._engine.set_fault(await _object(request))))
        except Refused as error:
            return _refused(error)

    async def mend(self, request: web.Request) -> web.StreamResponse:
        """Take one fault away."""
        found = self._engine.mend(request.match_info["id"])
        return _json(200 if found else 404, {"mended": int(found)})

    async def mend_all(self, request: web.Request) -> web.StreamResponse:
        """Take all faults away, or those of `?instance=`."""
        return _json(200, {"mended": self._engine.mend_instance(request.query.get("instance", "*"))})

    async def reset(self, request: web.Request) -> web.StreamResponse:
        """Forget everything; `{"seed": n}` sets another seed."""
        try:
            asked = await _object(request)
        except Refused as error:
            return _refused(error)
        seed = asked.get("seed")
        if seed is not None and type(seed) is not int:
            return _refused(FaultInvalid("seed must be a whole number."))
        self._engine.reset(seed)
        return _json(200, state_doc(self._engine))

    async def webhooks(self, request: web.Request) -> web.StreamResponse:
        """Say where the webhooks of an instance go: `{"urls": [...]}`."""
        try:
            urls = (await _object(request)).get("urls")
            if not isinstance(urls, list) or len(urls) > URLS_MAX or not all(_is_url(url) for url in urls):
                raise FaultInvalid(f"urls must be a list of at most {URLS_MAX} http addresses.")
            self._engine.set_hooks(request.match_info["instance"], urls)
        except Refused as error:
            return _refused(error)
        return _json(200, {"urls": urls})

    async def ledger(self, request: web.Request) -> web.StreamResponse:
        """Show a provider's own book, or with `?reference=` what it knows of one reference."""
        try:
            return _json(
                200, self._engine.ledger(request.match_info["instance"], request.query.get("reference"))
            )
        except Refused as error:
            return _refused(error)

    async def show_page(self, request: web.Request) -> web.StreamResponse:
        """Show the page."""
        language = page.language(request.query.get("lang"), request.headers.get("accept-language", ""))
        text = page.render(state_doc(self._engine), self._engine, language)
        return web.Response(text=text, content_type="text/html", headers=page.HEADERS)

    async def post_page(self, request: web.Request) -> web.StreamResponse:
        """Take what a form of the page asks for. Forms from other sites are refused."""
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
            return _json(
                403, {"error": {"code": "origin_refused", "message": "This form came from another site."}}
            )
        form = {name: str(value) for name, value in (await request.post()).items()}
        try:
            page.obey(self._engine, form)
        except Refused as error:
            return _refused(error)
        raise web.HTTPSeeOther(f"/?lang={page.language(form.get('lang'), '')}")


def _is_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


async def _object(request: web.Request) -> dict[str, Any]:
    body = await request.read()
    if not body:
        return {}
    if request.content_type != "application/json":
        raise FaultInvalid("The body must be application/json.")
    try:
        doc = json.loads(body)
    except ValueError:
        raise FaultInvalid("The body is not JSON.") from None
    if not isinstance(doc, dict):
        raise FaultInvalid("The body must be a JSON object.")
    return doc


def _json(status: int, doc: object) -> web.Response:
    return web.json_response(doc, status=status)


def _refused(error: Refused) -> web.Response:
    status = 404 if isinstance(error, InstanceUnknown) else 422
    return _json(status, {"error": {"code": error.code, "message": error.message}})
