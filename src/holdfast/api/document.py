"""The OpenAPI document, as a file and as a page to read, and a page about each problem code.

Pages are made here, in one piece: no script, nothing fetched from elsewhere.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from jinja2 import ChainableUndefined, Environment, PackageLoader
from litestar import Litestar, Router, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import FromPath
from litestar.response import Response

from holdfast import __version__
from holdfast.api.errors import PROBLEM_TYPE, TABLE, NotFound, Problem
from holdfast.api.responses import Call

DESCRIPTION: Final = (
    "Payments that survive their providers. Amounts are whole numbers of minor units; times are RFC 3339. "
    "Requests that move money or make something need an Idempotency-Key. Problems are RFC 9457, with a "
    "stable code and what to do."
)

CONFIG: Final = OpenAPIConfig(
    title="Holdfast API",
    version=__version__,
    description=DESCRIPTION,
    render_plugins=(),
    use_handler_docstrings=True,
    components=Components(
        security_schemes={
            "key": SecurityScheme(
                type="http", scheme="bearer", description="A secret key: sk_test_… or sk_live_…."
            )
        }
    ),
)

_pages: Final = Environment(
    loader=PackageLoader("holdfast.api"),
    autoescape=True,
    undefined=ChainableUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def describe(framework: Litestar) -> dict[str, Any]:
    """Return the OpenAPI document, with what the framework does not know of.

    Problems, and the key's being required.
    """
    document: dict[str, Any] = framework.openapi_schema.to_schema()
    schemas = document["components"]["schemas"]
    _, found = msgspec.json.schema_components([Problem], ref_template="#/components/schemas/{name}")
    schemas.update(found)
    reference = {"schema": {"$ref": "#/components/schemas/Problem"}}
    problem = {"description": "A problem (RFC 9457).", "content": {"application/problem+json": reference}}
    for path, item in document["paths"].items():
        for operation in item.values():
            answers = operation["responses"]
            answers.pop("400", None)
            if path.startswith("/v1/"):
                answers["default"] = problem
            for status in _ALSO.get(operation.get("summary", ""), ()):
                answers[status] = answers["201"] | {"description": _ALSO_WORDS[status]}
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "Idempotency-Key":
                    parameter["required"] = True
                    parameter["schema"] = {"type": "string", "minLength": 1, "maxLength": 130}
    return document


_ALSO: Final = {
    "Make a payment": ("202",),
    "Top up a payer's balance": ("202",),
    "Refund a payment": ("202",),
}
_ALSO_WORDS: Final = {"202": "Something is still open; `next` says what happens."}


def render(document: dict[str, Any]) -> str:
    """Return the page for an OpenAPI document."""
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            by_tag.setdefault(operation.get("tags", ["Other"])[0], []).append((path, method, operation))
    page = _pages.get_template("document.html")
    return page.render(document=document, by_tag=by_tag, problem_type=PROBLEM_TYPE)


def problems_page(code: str | None = None) -> str:
    """Return the page that explains one problem, or all. Raises: `NotFound`."""
    if code is not None and code not in TABLE:
        raise NotFound("There is no such problem code.")
    lines = sorted(TABLE.items()) if code is None else [(code, TABLE[code])]
    title = "Problems" if code is None else TABLE[code].title
    return _pages.get_template("problems.html").render(title=title, lines=lines, problem_type=PROBLEM_TYPE)


def _page(text: str) -> Response[str]:
    return Response(text, media_type="text/html")


@get("/docs", include_in_schema=False)
async def docs(request: Call) -> Response[str]:
    """Show the API to read."""
    return _page(render(describe(request.app)))


@get("/openapi.json", include_in_schema=False)
async def openapi(request: Call) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    return describe(request.app)


@get("/problems", include_in_schema=False)
async def problems() -> Response[str]:
    """Explain every problem code."""
    return _page(problems_page())


@get("/problems/{code:str}", include_in_schema=False)
async def one_problem(code: FromPath[str]) -> Response[str]:
    """Explain one problem code."""
    return _page(problems_page(code))


routes = Router("/", route_handlers=[docs, openapi, problems, one_problem])
