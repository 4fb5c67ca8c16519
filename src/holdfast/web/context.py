"""What every page works with: the application, the reader's language, where a form came from."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.exceptions import ClientException, NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.response import Response

from holdfast.base.errors import OutcomeUnknown, Refused, Unavailable
from holdfast.base.ids import IdInvalid
from holdfast.boot import App
from holdfast.domains.payments.errors import PaymentNotFound
from holdfast.platform.log import logger
from holdfast.web import render
from holdfast.web.locale import COOKIE, N_, Language, choose

Call = Request[Any, Any, Any]
_log: Final = logger(__name__)
_OURS: Final = 500
_COOKIE_AGE_S: Final = 365 * 24 * 3600
_OWN: Final = frozenset({"same-origin", "none"})


class FormFromElsewhere(Refused):
    """The form did not come from a page of this server, so it was not obeyed."""

    code = "form_from_elsewhere"


def app_of(request: Call) -> App:
    """Return the application."""
    app: App = request.app.state["app"]
    return app


def language_of(request: Call) -> Language:
    """Return the language for a request."""
    asked = request.query_params.get("lang")
    return Language(choose(asked, request.cookies.get(COOKIE), request.headers.get("accept-language")))


def wants_page(request: Call) -> bool:
    """Tell whether a page is wanted rather than JSON (RFC 9110, 12.5.1): by browsers; others get JSON."""
    return (
        request.accept.best_match(["application/json", "application/problem+json", "text/html"])
        == "text/html"
    )


def remember(response: Response[Any], request: Call, language: Language) -> Response[Any]:
    """Let the browser keep a language that was asked for by a link."""
    if request.query_params.get("lang") == language.tag:
        response.set_cookie(
            Cookie(
                key=COOKIE, value=language.tag, path="/", max_age=_COOKIE_AGE_S, samesite="lax", httponly=True
            )
        )
    return response


def own_form(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """Refuse a form that another site's page sent (cross-site request forgery).

    Browsers say where a request comes from in `Sec-Fetch-Site`, older ones in `Origin`; no page forges them.
    Raises: `FormFromElsewhere`.
    """
    site = connection.headers.get("sec-fetch-site")
    origin = connection.headers.get("origin")
    if site is not None and site not in _OWN:
        raise FormFromElsewhere
    if site is None and origin is not None and origin.partition("://")[2] != connection.headers.get("host"):
        raise FormFromElsewhere


def error_page(request: Call, error: Exception) -> Response[str]:
    """Return the page for an error, in words that say whether anything has moved."""
    language = language_of(request)
    status, title, line = _told(error)
    if status == _OURS:
        _log.error("page failed", path=request.url.path, exc_info=error)
    answer = render.page(
        "plain.html",
        language,
        status=status,
        title=language.say(title),
        lines=[language.say(line)],
        links=[("/", language.say(N_("Back to the shop")))],
    )
    if isinstance(error, Unavailable):
        answer.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return answer


def _told(error: Exception) -> tuple[int, str, str]:
    match error:
        case PaymentNotFound() | IdInvalid() | NotFoundException():
            return 404, N_("Not found"), N_("There is no such page here.")
        case Unavailable():
            return (
                503,
                N_("Not right now"),
                N_("This cannot be done at the moment. Nothing has been charged. Try again shortly."),
            )
        case OutcomeUnknown():
            return (
                503,
                N_("Not certain yet"),
                N_("We do not know yet whether this went through. Do not pay again: look at it first."),
            )
        case FormFromElsewhere():
            return (
                403,
                N_("Not from here"),
                N_("This form was sent by another site, so it was not obeyed. Nothing has been charged."),
            )
        case Refused() | ClientException():
            return (
                422,
                N_("That cannot be done"),
                N_("The request does not make sense as it is. Nothing has been charged."),
            )
        case _:
            return (
                _OURS,
                N_("Something is wrong on our side"),
                N_("It has been noted. If you were paying, look at the payment first."),
            )
