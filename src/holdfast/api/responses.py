"""What endpoints share: who calls, the parameters they have in common, and how a reply goes out."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final

from litestar import Request
from litestar.params import HeaderParameter
from litestar.response import Response

from holdfast.api.context import Api, Reply
from holdfast.domains.merchants import Caller, Right

Call = Request[Any, Any, Any]

OnceKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="Required. A fresh random text (a UUID) for each new wish, the same for repeats of it.",
        max_length=1_000,
    ),
]

STATE: Final = "api"


def api_of(request: Call) -> Api:
    """Return what the endpoints work with."""
    api: Api = request.app.state[STATE]
    return api


async def called(request: Call, right: Right) -> tuple[Api, Caller]:
    """Return the application and who calls. Raises: `KeyMissing`, `KeyInvalid`, `RightMissing`."""
    api = api_of(request)
    return api, await api.caller(request.headers.get("authorization"), right)


def body_of(request: Call) -> bytes:
    """Return the request's body as it came."""
    body: bytes = request.scope["state"]["body"]
    return body


def send(reply: Reply) -> Response[Any]:
    """Return `reply` as the framework's response."""
    headers = {}
    if reply.replayed:
        headers["Idempotent-Replayed"] = "true"
    if reply.retry_after_s:
        headers["Retry-After"] = str(math.ceil(reply.retry_after_s))
    return Response(
        reply.body, status_code=reply.status, media_type=reply.content_type.decode(), headers=headers
    )
