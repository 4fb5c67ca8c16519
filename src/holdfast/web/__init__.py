"""Pages for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litestar import Router

__all__ = ["routes"]


def routes(*, development: bool) -> list[Router]:
    """Return the pages' routes. The shop, its checkout and the panel exist in development only."""
    from litestar import Router  # noqa: PLC0415 - the package's name must be importable without the framework
    from litestar.exceptions import HTTPException  # noqa: PLC0415
    from litestar.static_files import create_static_files_router  # noqa: PLC0415

    from holdfast.base.errors import HoldfastError  # noqa: PLC0415
    from holdfast.web import checkout, context, home, nowhere, panel  # noqa: PLC0415
    from holdfast.web.render import STATIC  # noqa: PLC0415

    shop = [
        home.home,
        checkout.begin,
        checkout.go_on,
        checkout.pay_otherwise,
        checkout.page,
        checkout.story,
        checkout.events,
        panel.change,
        nowhere.form_of_the_shop,
        nowhere.form_of_a_payment,
    ]
    pages = Router(
        path="/",
        route_handlers=shop if development else [home.landing],
        exception_handlers=dict.fromkeys((HoldfastError, HTTPException, Exception), context.error_page),
        include_in_schema=False,
    )
    static = create_static_files_router(
        path="/static",
        directories=[STATIC],
        include_in_schema=False,
        cache_control=None,
    )
    return [pages, static, nowhere.router(development=development)]
