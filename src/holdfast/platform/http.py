"""Outbound HTTP that knows whether anything left. Rails and webhooks go through here and nowhere else.

What a payment does after a failed call depends on one fact: could the other side have acted on it? So there
are three ends of a call, and the line between them is drawn by what this process did, never by the text of
an error:

- a `Reply`: the whole answer was read;
- `NotSent`: no byte of the request was handed to the operating system. Name not resolved, address refused
  by policy, connection refused, no route, TLS failed or hung, certificate wrong, no free connection in
  time;
- `NoAnswer`: at least one byte may have left, and no whole answer came back.

The line is drawn by a hook that the client library calls right before it writes the first byte of the
request, on a connection that is ready (TLS included; Python's `ssl` sends no early data). Failed before the
hook: `NotSent`. After it: `NoAnswer`, also when the operating system then refused the bytes, because that
cannot be told apart with certainty.

Connections are kept for the next request, which opens a trap: the other side may have closed one while it
lay idle. Writing to it fails, or succeeds and is answered by a reset, and "closed before my request" looks
exactly like "acted and then died". Three measures keep that rare, and the fourth keeps it safe: idle
connections are dropped after `HTTP_KEEPALIVE_S`, shorter than servers usually wait; before each call the
event loop is given the chance to see the closings that the kernel already knows; a request that may be
repeated freely (GET, HEAD) is repeated once on a fresh connection by the client library; and everything
else that dies on a reused connection is `NoAnswer`.

Addresses: unless `allow_private`, only globally routable addresses are connected to. The check sits where
the socket is made and sees the very address that will be used, so a name that resolves differently the
second time gains nothing. Redirects are not followed, proxies from the environment are not used, cookies
are not kept.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import aiohttp

from holdfast.base.errors import OutcomeUnknown, Refused, Unavailable
from holdfast.base.limits import (
    HTTP_CONNECT_TIMEOUT_S,
    HTTP_CONNECTIONS_MAX,
    HTTP_DNS_CACHE_S,
    HTTP_KEEPALIVE_S,
    HTTP_RESPONSE_BYTES_MAX,
)

if TYPE_CHECKING:
    from aiohttp.connector import AddrInfoType

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class NotSent(Unavailable):
    """The request never left: nothing can have happened on the other side."""

    code = "not_sent"

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message, reason=reason)


class AddressRefused(NotSent):
    """The address is not one that may be called from here."""

    code = "address_refused"


class NoAnswer(OutcomeUnknown):
    """The request may have been carried out; no whole answer came back."""

    code = "no_answer"

    def __init__(self, reason: str, message: str, *, status: int | None = None) -> None:
        self.reason = reason
        self.status = status
        super().__init__(message, reason=reason, status=status)


class UrlInvalid(Refused):
    """Only absolute http and https addresses without user name or fragment can be called."""

    code = "url_invalid"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. Header names are in lower case; of repeated headers the last one counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _PrivateAddressError(OSError):
    """Raised where a socket to a private address would have been made."""


def is_public(address: _IPAddress) -> bool:
    """Tell whether `address` is globally routable unicast; looks inside addresses that wrap an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None and not is_public(inner):
            return False
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _public_socket(info: AddrInfoType) -> socket.socket:
    """Make a socket for `info` only if its address is public.

    The last point before the connection, and the only check.
    """
    family, kind, protocol, _, sockaddr = info
    host = str(sockaddr[0]).partition("%")[0]
    if not is_public(ipaddress.ip_address(host)):
        raise _PrivateAddressError(f"{host} is not a public address")
    return socket.socket(family=family, type=kind, proto=protocol)


def _trace() -> aiohttp.TraceConfig:
    """Return the hook that notes the moment before the first byte of a request."""

    async def about_to_write(
        _session: aiohttp.ClientSession,
        context: SimpleNamespace,
        _params: aiohttp.TraceRequestHeadersSentParams,
    ) -> None:
        context.trace_request_ctx.written = True

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(about_to_write)
    return trace


@dataclass(slots=True)
class _Progress:
    """How far one call came."""

    written: bool = False
    status: int | None = None


class HttpClient:
    """A pool of connections to one other side. Make it inside a running loop; `close()` it.

    `allow_private` permits loopback and private addresses (a sandbox, a test, a rail inside the house).
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        connections_max: int = HTTP_CONNECTIONS_MAX,
        tls: ssl.SSLContext | None = None,
        response_bytes_max: int = HTTP_RESPONSE_BYTES_MAX,
    ) -> None:
        self._response_bytes_max = response_bytes_max
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections_max,
                ttl_dns_cache=HTTP_DNS_CACHE_S,
                keepalive_timeout=HTTP_KEEPALIVE_S,
                ssl=tls if tls is not None else True,
                socket_factory=None if allow_private else _public_socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            trace_configs=[_trace()],
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=HTTP_CONNECT_TIMEOUT_S),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def call(
        self,
        method: str,
        url: str,
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """Send one request and read the whole answer within `timeout_s` seconds, connecting included.

        Raises: `UrlInvalid`; `NotSent` (`AddressRefused` among them) when provably nothing left; `NoAnswer`
        otherwise.
        """
        if timeout_s <= 0:
            raise NotSent("deadline", "The deadline had passed before the request was sent.")
        _check_url(url)
        await _let_closings_arrive()
        progress = _Progress()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(method, url, headers or {}, body, progress)
        except TimeoutError as error:
            reason, message = "timeout", f"No answer within {timeout_s:g} s."
            raise _classified(progress, reason, message) from error
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as error:
            if not progress.written and _refused_by_policy(error):
                raise AddressRefused("address", "The address is not public.") from error
            raise _classified(progress, _reason(error), f"{type(error).__name__}: {error}") from error

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, progress: _Progress
    ) -> Reply:
        async with self._session.request(
            method,
            url,
            headers={"accept-encoding": "identity", **headers},
            data=body,
            allow_redirects=False,
            trace_request_ctx=progress,
        ) as response:
            progress.status = response.status
            content = bytearray()
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > self._response_bytes_max:
                    response.close()
                    raise NoAnswer("too_large", "The answer was larger than allowed.", status=response.status)
            return Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, bytes(content))


def _check_url(url: str) -> None:
    scheme, separator, rest = url.partition("://")
    authority = rest.partition("/")[0].partition("?")[0]
    if separator == "" or scheme not in ("http", "https") or not authority or "@" in authority or "#" in url:
        raise UrlInvalid


async def _let_closings_arrive() -> None:
    """Give the loop two turns.

    One to ask the kernel, one to run what it reported, so that idle connections which the other side has
    closed are gone before one is picked.
    """
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _classified(progress: _Progress, reason: str, message: str) -> NotSent | NoAnswer:
    if progress.written:
        return NoAnswer(reason, message, status=progress.status)
    return NotSent("connect_timeout" if reason == "timeout" else reason, message)


def _refused_by_policy(error: BaseException) -> bool:
    seen: list[BaseException | None] = [error]
    while seen:
        one = seen.pop()
        if isinstance(one, _PrivateAddressError):
            return True
        if isinstance(one, BaseExceptionGroup):
            seen.extend(one.exceptions)
        elif one is not None:
            seen.append(one.__cause__ or one.__context__)
    return False


def _reason(error: BaseException) -> str:
    """Name what went wrong, for logs and metrics; nothing is decided by it."""
    reasons: tuple[tuple[type[BaseException], str], ...] = (
        (aiohttp.ClientConnectorDNSError, "name_not_resolved"),
        (aiohttp.ClientSSLError, "tls"),
        (ssl.SSLError, "tls"),
        (ConnectionRefusedError, "refused"),
        (ConnectionResetError, "reset"),
        (aiohttp.ServerDisconnectedError, "closed"),
        (aiohttp.ClientPayloadError, "truncated"),
        (aiohttp.ClientResponseError, "malformed"),
        (aiohttp.InvalidURL, "url"),
    )
    for kind, reason in reasons:
        if isinstance(error, kind) or isinstance(error.__cause__, kind):
            return reason
    return "connection"
