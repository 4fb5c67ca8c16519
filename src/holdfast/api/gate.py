"""The first layer: what a request must pass before it costs anything, and what every answer carries.

Size, type, nesting and doubled keys of a body are checked here, before anything parses it; requests beyond
what one process can work on are turned away at once. Every answer gets a request id and the headers that keep
browsers honest.

Two routes are served from here and do not pass through the framework: `POST /v1/payments`, which is most of
the load (docs/explanation/where-the-time-goes.md has the gain), and `POST /v1/transfers/batch`, whose bodies
are large: there who calls is asked, and a place taken, before any of the body is read, and it is for the
route itself to see that the body is fit. The framework has the same routes for the OpenAPI document.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import Any, Final, NamedTuple

from holdfast.api.body import BodyTooLarge, ContentTypeUnsupported, check_json
from holdfast.api.context import JSON, Reply, encode
from holdfast.api.errors import HeaderInvalid, Overloaded, Problem, RequestInvalid, problem, unexpected
from holdfast.base.errors import HoldfastError, OutcomeUnknown, Unavailable
from holdfast.base.limits import (
    BODY_BYTES_MAX,
    HEADER_LINE_CHARS_MAX,
    REQUEST_BODY_TIMEOUT_S,
    REQUESTS_IN_FLIGHT_MAX,
)
from holdfast.platform.log import logger

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Hot = Callable[["Request"], Awaitable[Reply]]
Watch = Callable[[str, str, str, int, float, str], None]
"""Is told method, path, route, status, seconds and request id."""

_logger: Final = logger(__name__)
_LATE: Final = "The body did not arrive in time."

API: Final = "/v1/"
RAILS: Final = "/v1/rails/"
"""Messages from rails come in the rail's own format."""

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_ONE_ONLY: Final = frozenset({b"authorization", b"idempotency-key", b"content-type", b"content-length"})
"""Headers that may stand once: with two, one layer could obey the first and another the second."""

SAFETY: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
)
_API_ONLY: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_PAGES_ONLY: Final[tuple[tuple[bytes, bytes], ...]] = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
        b"base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    ),
)


class Request:
    """What a hot route needs of a request: its headers by name, its whole body, its id."""

    __slots__ = ("body", "headers", "id")

    def __init__(self, id_: str, headers: dict[bytes, bytes], body: bytes) -> None:
        self.id = id_
        self.headers = headers
        self.body = body

    def header(self, name: bytes) -> str | None:
        """Return a header's value, or None."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


class Wide(NamedTuple):
    """A route whose bodies are large. `enter` gives a place to whoever may call, or raises."""

    serve: Hot
    enter: Callable[[Request], AbstractAsyncContextManager[None]]
    body_bytes_max: int


class Gate:
    """Wraps the framework's application. `hot` maps (method, path) to routes that are served without it.

    So does `wide`.

    `ids` makes request ids; `log(method, path, status, seconds, request id)` is told of every request to the
    API.
    """

    def __init__(
        self,
        inner: Asgi,
        hot: dict[tuple[str, str], Hot],
        *,
        ids: str,
        watch: Watch,
        wide: dict[tuple[str, str], Wide] | None = None,
        in_flight_max: int = REQUESTS_IN_FLIGHT_MAX,
        body_timeout_s: float = REQUEST_BODY_TIMEOUT_S,
    ) -> None:
        self._inner = inner
        self._hot = hot
        self._wide = wide or {}
        self._ids = ids
        self._numbers = count(1)
        self._watch = watch
        self._in_flight = 0
        self._in_flight_max = in_flight_max
        self._body_timeout_s = body_timeout_s

    @property
    def in_flight(self) -> int:
        """How many requests to the API are under way."""
        return self._in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's message stream (ASGI)."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
        elif scope["path"].startswith(API):
            await self._api(scope, receive, send)
        else:
            await self._page(scope, receive, send)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pages, documents, health.

        Bounded in size; streams may stay open, so they are not counted as in flight.
        """
        outgoing = _Outgoing(send, f"req_{self._ids}{next(self._numbers):x}", _PAGES_ONLY)
        try:
            headers = _headers(scope["headers"])
            _check_query(scope["query_string"])
            if scope["method"] in _WITH_BODY:
                receive = _replay(await self._body(headers, receive), receive)
            await self._inner(scope, receive, outgoing)
        except HoldfastError as error:
            await outgoing.answer(problem(error, outgoing.id))

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        outgoing = _Outgoing(send, f"req_{self._ids}{next(self._numbers):x}", _API_ONLY)
        method: str = scope["method"]
        path: str = scope["path"]
        if self._in_flight >= self._in_flight_max:
            await outgoing.answer(problem(Overloaded(), outgoing.id))
            self._watch(method, path, "", outgoing.status, 0.0, outgoing.id)
            return
        self._in_flight += 1
        try:
            await self._serve(method, path, scope, receive, outgoing)
        except HoldfastError as error:
            await outgoing.answer(problem(error, outgoing.id))
            if outgoing.status >= 500 and not isinstance(error, Unavailable | OutcomeUnknown):
                _logger.exception("request failed", request_id=outgoing.id, path=path)
        except Exception:
            _logger.exception("request failed", request_id=outgoing.id, path=path)
            await outgoing.answer(unexpected(outgoing.id))
        finally:
            self._in_flight -= 1
            direct = (method, path) in self._hot or (method, path) in self._wide
            route = path if direct else scope.get("path_template", "")
            seconds = time.perf_counter() - started
            self._watch(method, path, route, outgoing.status, seconds, outgoing.id)

    async def _serve(
        self, method: str, path: str, scope: Scope, receive: Receive, outgoing: _Outgoing
    ) -> None:
        headers = _headers(scope["headers"])
        _check_query(scope["query_string"])
        wide = self._wide.get((method, path))
        if wide is not None:
            await outgoing.reply(await self._serve_wide(wide, Request(outgoing.id, headers, b""), receive))
            return
        body = b""
        if method in _WITH_BODY:
            body = await self._body(headers, receive)
            if not path.startswith(RAILS):
                _check_type(headers, body)
                if body:
                    check_json(body)
        hot = self._hot.get((method, path))
        if hot is None:
            scope["state"] = {**scope.get("state", {}), "request_id": outgoing.id, "body": body}
            await self._inner(scope, _replay(body, receive), outgoing)
        else:
            await outgoing.reply(await hot(Request(outgoing.id, headers, body)))

    async def _serve_wide(self, wide: Wide, request: Request, receive: Receive) -> Reply:
        async with wide.enter(request):
            try:
                async with asyncio.timeout(self._body_timeout_s):
                    request.body = await self._body(request.headers, receive, wide.body_bytes_max)
            except TimeoutError:
                raise RequestInvalid(_LATE) from None
            _check_type(request.headers, request.body)
            return await wide.serve(request)

    async def _body(
        self, headers: dict[bytes, bytes], receive: Receive, bytes_max: int = BODY_BYTES_MAX
    ) -> bytes:
        """Read a body up to its bound and in time.

        Raises: `BodyTooLarge`, `HeaderInvalid`, `RequestInvalid`.
        """
        said = headers.get(b"content-length", b"0")
        if not said.isdigit():
            raise HeaderInvalid("Content-Length is not a number.")
        if len(said) > 9 or int(said) > bytes_max:
            raise _too_large(bytes_max)
        message = await receive()
        body: bytes = message.get("body", b"")
        # A server may say "more" and then bring nothing: with as much as was announced, there is no more.
        if not message.get("more_body", False) or len(body) == int(said) > 0:
            if len(body) > bytes_max:
                raise _too_large(bytes_max)
            return body
        try:
            async with asyncio.timeout(self._body_timeout_s):
                return await _rest_of_body(message, receive, bytes_max, int(said))
        except TimeoutError:
            raise RequestInvalid(_LATE) from None


def _too_large(bytes_max: int) -> BodyTooLarge:
    return BodyTooLarge(f"A body has at most {bytes_max} bytes here.")


async def _rest_of_body(message: Message, receive: Receive, bytes_max: int, said: int) -> bytes:
    parts = [message.get("body", b"")]
    size = len(parts[0])
    while message.get("more_body", False) and not size == said > 0:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestInvalid("The connection ended before the body did.")
        part = message.get("body", b"")
        size += len(part)
        if size > bytes_max:
            raise _too_large(bytes_max)
        parts.append(part)
    return b"".join(parts)


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in headers and name in _ONE_ONLY:
            raise HeaderInvalid(f"The header {name.decode('latin-1')} stands twice.")
        if len(value) > HEADER_LINE_CHARS_MAX:
            raise HeaderInvalid(f"The header {name.decode('latin-1')[:40]} is too long.")
        headers[name] = value
    return headers


def _check_query(query: bytes) -> None:
    if b"%00" in query:
        raise RequestInvalid("The query holds the character NUL, which is in nothing that is kept here.")


def _check_type(headers: dict[bytes, bytes], body: bytes) -> None:
    kind = headers.get(b"content-type", b"")
    if body and kind != JSON and kind.partition(b";")[0].strip().lower() != JSON:
        raise ContentTypeUnsupported


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives `body` once and then what really comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


class _Outgoing:
    """Sends an answer with the headers that every answer carries.

    Those that the framework has set already stay.
    """

    __slots__ = ("_headers", "_send", "id", "status")

    def __init__(self, send: Send, id_: str, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self._send = send
        self._headers = headers
        self.id = id_
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            there = message.setdefault("headers", [])
            names = {name.lower() for name, _ in there}
            message["headers"] = [
                *there,
                *(pair for pair in (*SAFETY, *self._headers) if pair[0] not in names),
                (b"x-request-id", self.id.encode()),
            ]
        await self._send(message)

    async def reply(self, reply: Reply) -> None:
        """Send `reply`."""
        self.status = reply.status
        headers = [
            (b"content-type", reply.content_type),
            (b"content-length", b"%d" % len(reply.body)),
            (b"x-request-id", self.id.encode()),
            *SAFETY,
            *self._headers,
        ]
        if reply.replayed:
            headers.append((b"idempotent-replayed", b"true"))
        if reply.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if reply.retry_after_s:
            headers.append((b"retry-after", b"%d" % math.ceil(reply.retry_after_s)))
        await self._send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": reply.body})

    async def answer(self, written: Problem) -> None:
        """Send a problem, unless an answer has begun already."""
        if not self.status:
            await self.reply(Reply(written.status, encode(written), retry_after_s=written.retry_after_s))
