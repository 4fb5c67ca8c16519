"""The OpenAPI document, as a file and as a page to read, and a page about each problem code.

Pages are made here, in one piece: no script, nothing fetched from elsewhere. Each shape has an example that
is made from its schema: real in form (ids, times, codes), the same every time.
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any, Final

import msgspec
from jinja2 import ChainableUndefined, Environment, PackageLoader
from litestar import Litestar, Router, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import FromPath
from litestar.response import Response
from markupsafe import Markup, escape

from holdfast import __version__
from holdfast.api import wire
from holdfast.api.batch_answer import REFUSALS
from holdfast.api.errors import PROBLEM_TYPE, TABLE, NotFound, Problem
from holdfast.api.examples import REF, example
from holdfast.api.responses import Call
from holdfast.base.errors import Broken, HoldfastError, OutcomeUnknown, Refused, Unavailable

DESCRIPTION: Final = (
    "Payments that survive their providers. Amounts are whole numbers of minor units; times are RFC 3339. "
    "Requests that move money or make something need an Idempotency-Key. Problems are RFC 9457, with a "
    "stable `code` and what to do. Every answer has its id in the header `X-Request-Id`; a problem names it "
    "as `request_id` too, unless it was kept for its Idempotency-Key: a repeat gets the same bytes."
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


_PAGE: Final = re.compile(r"Page_(?:\w+\.)*(\w+)_")


def shape_name(name: str) -> str:
    """Return what people call a schema: `Page of PaymentShown` for a page of them."""
    page = _PAGE.fullmatch(name)
    return name if page is None else f"Page of {page[1]}"


def code_marked(text: str | None) -> Markup:
    """Return a text for a page, with what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text or ""))))  # noqa: S704 - escaped


def sentence(text: str) -> str:
    """Return a text that ends as a sentence does."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


_pages.filters |= {"shape": shape_name, "words": code_marked, "sentence": sentence}


def describe(framework: Litestar) -> dict[str, Any]:
    """Return the OpenAPI document, with what the framework does not know of.

    Problems, the key's being required, what comes in words, and examples.
    """
    document: dict[str, Any] = _with_whole_numbers(framework.openapi_schema.to_schema())
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
    _put_into_words(document)
    for name, schema in schemas.items():
        schema["examples"] = [example(schema, schemas, name)]
    return document


def _with_whole_numbers(part: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a document whose numbers are whole where they have no fraction: 100, not 100.0."""
    if isinstance(part, dict):
        return {key: _with_whole_numbers(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_with_whole_numbers(value) for value in part]
    return int(part) if isinstance(part, float) and part.is_integer() else part


def _put_into_words(document: dict[str, Any]) -> None:
    """Say of each shape what it is, and of each answer what comes, in place of what HTTP calls its status."""
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        kind = getattr(wire, "Page" if name.startswith("Page_") else name, None)
        told = inspect.getdoc(kind) if kind is not None else _SHAPES.get(name)
        schema["description"] = " ".join((schema.get("description") or told or "").split())
    for item in document["paths"].values():
        for operation in item.values():
            for status, answer in operation["responses"].items():
                if status.startswith("2") and status not in _ALSO_WORDS:
                    answer["description"] = _what_comes(answer, schemas)


_SHAPES: Final = {"PaymentState": "Where a payment stands."}


def _what_comes(answer: dict[str, Any], schemas: dict[str, Any]) -> str:
    if not answer.get("content"):
        return "Done; nothing is sent back."
    media, content = next(iter(answer["content"].items()))
    name = content.get("schema", {}).get("$ref", "").removeprefix(REF)
    if name in schemas:
        told: str = schemas[name]["description"]
        return told.partition(". ")[0].removesuffix(".") + "."
    return "Text." if media.startswith("text/") else "What was asked for."


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
    schemas = document["components"]["schemas"]
    examples = {name: json.dumps(one["examples"][0], indent=2) for name, one in schemas.items()}
    page = _pages.get_template("document.html")
    return page.render(document=document, by_tag=by_tag, problem_type=PROBLEM_TYPE, examples=examples)


_PROMISES: Final[dict[type[HoldfastError], tuple[str, ...]]] = {
    Refused: (
        "It was refused, and nothing has moved. As it is, it will be refused again.",
        "Where it got as far as its Idempotency-Key, the refusal is kept: a repeat with the same key gets it "
        "again, so use a fresh key for a corrected request.",
    ),
    Unavailable: (
        "It could not be done just now, and nothing has moved. It may succeed shortly: the header "
        "Retry-After says when to try again.",
        "This answer is not kept for an Idempotency-Key: repeat it with the same key.",
    ),
    OutcomeUnknown: (
        "It may have happened, or not. This is not a failure: never send it anew with a fresh key.",
        "Repeat it with the same Idempotency-Key, which does it once at most, or ask for its state.",
    ),
    Broken: (
        "Something is wrong on our side, not with the request. What it was is in the server's log only.",
    ),
}
"""What each family of errors promises, for those who got one of its codes."""


_ALWAYS_KEPT: Final = frozenset({"payment_failed"})
"""Codes of answers that are kept for their Idempotency-Key whenever they are given."""


def _family(code: str) -> type[HoldfastError]:
    """Return the family of a code, or what its status says where no error carries it."""
    waiting: list[type[HoldfastError]] = [*_PROMISES]
    while waiting:
        kind = waiting.pop()
        if kind.code == code:
            return next(family for family in _PROMISES if issubclass(kind, family))
        waiting += kind.__subclasses__()
    status = TABLE[code].status
    return Broken if status == 500 else Unavailable if status == 503 else Refused


def _meaning(code: str) -> str:
    """Return the words that an answer with this code has where there is nothing more exact to say."""
    waiting: list[type[HoldfastError]] = [*_PROMISES]
    while waiting:
        kind = waiting.pop()
        if kind.code == code:
            return " ".join((inspect.getdoc(kind) or "").split())
        waiting += kind.__subclasses__()
    return _OUTCOMES.get(code, "")


_OUTCOMES: Final = {refusal.code: refusal.words for refusal in REFUSALS.values()}
"""What is said of a transfer of a batch whose outcome is one of these codes, which no error carries."""


def _shown(code: str, detail: str) -> str:
    line = TABLE[code]
    detail = "" if line.status == 500 else detail
    request_id = "" if code in _ALWAYS_KEPT else "req_5f3a1b2c"
    written = Problem(PROBLEM_TYPE + code, line.title, line.status, code, line.remedy, detail, request_id)
    return json.dumps(msgspec.to_builtins(written), indent=2)


def problems_page(code: str | None = None) -> str:
    """Return the page that explains one problem, or all. Raises: `NotFound`."""
    if code is not None and code not in TABLE:
        raise NotFound("There is no such problem code.")
    page = _pages.get_template("problems.html")
    if code is None:
        return page.render(title="Problems", lines=sorted(TABLE.items()), problem_type=PROBLEM_TYPE)
    meaning = _meaning(code)
    return page.render(
        title=TABLE[code].title,
        code=code,
        line=TABLE[code],
        meaning=meaning,
        promises=_PROMISES[_family(code)],
        shown=_shown(code, meaning),
        problem_type=PROBLEM_TYPE,
    )


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
async def one_problem(request: Call, code: FromPath[str]) -> Response[str]:
    """Explain one problem code. Raises: `NotFound`, where a program asks; a browser gets all codes."""
    if code not in TABLE and "text/html" in request.headers.get("accept", ""):
        answer = _page(problems_page())
        answer.status_code = 404
        return answer
    return _page(problems_page(code))


routes = Router("/", route_handlers=[docs, openapi, problems, one_problem])
