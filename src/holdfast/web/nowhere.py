"""Paths that lead nowhere: a page for people, the API's problem for programs.

The framework finds the handler of a path step by step and never turns back, so each folder of the pages
needs a line of its own. What begins with /v1/ belongs to the API and never comes here. A form's address that
is opened as a page leads to the page that has the form.
"""

from __future__ import annotations

from typing import Any

from litestar import HttpMethod, Response, Router, get, route
from litestar.exceptions import NotFoundException
from litestar.response import Redirect

from holdfast.web.context import Call, error_page, wants_page

_METHODS = [
    HttpMethod.GET,
    HttpMethod.HEAD,
    HttpMethod.POST,
    HttpMethod.PUT,
    HttpMethod.PATCH,
    HttpMethod.DELETE,
]


@route("/{rest:path}", http_method=_METHODS, status_code=404)
async def nothing_here(request: Call) -> Response[Any]:
    """Say that there is nothing. Raises: `NotFoundException`, where a program asks."""
    return _nothing(request)


@route(
    ["/checkout/{one:str}/{rest:path}", "/providers", "/providers/{one:str}/{rest:path}"],
    http_method=_METHODS,
    status_code=404,
)
async def nothing_in_the_shop(request: Call) -> Response[Any]:
    """Say the same below the shop's own paths. Raises: `NotFoundException`, where a program asks."""
    return _nothing(request)


@get(["/checkout", "/providers/{provider:str}"])
async def form_of_the_shop() -> Redirect:
    """Lead to the shop, whose forms are sent to these addresses."""
    return Redirect("/", status_code=303)


@get(["/checkout/{payment_id:str}/confirm", "/checkout/{payment_id:str}/instead"])
async def form_of_a_payment(payment_id: str) -> Redirect:
    """Lead to the payment, whose forms are sent to these addresses."""
    return Redirect(f"/checkout/{payment_id}", status_code=303)


def _nothing(request: Call) -> Response[Any]:
    if request.method == HttpMethod.HEAD or not wants_page(request):
        raise NotFoundException
    return error_page(request, NotFoundException())


def router(*, development: bool) -> Router:
    """Return the routes; where there is no shop, its folders are nowhere as well."""
    shop = [nothing_in_the_shop] if development else []
    return Router("/", route_handlers=[nothing_here, *shop], include_in_schema=False)
