"""The OpenAPI document as a page to read: made on the server, one file, nothing fetched from elsewhere, no script."""

from __future__ import annotations

from html import escape
from typing import Any, Final

from litestar import Router, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.response import Response

from holdfast import __version__
from holdfast.api.errors import PROBLEM_TYPE, TABLE, NotFound
from holdfast.api.responses import Call

DESCRIPTION: Final = (
    "Payments that survive their providers. Amounts are whole numbers of minor units; times are RFC 3339. Requests "
    "that move money or make something need an Idempotency-Key. Problems are RFC 9457, with a stable code and what to do."
)

_STYLE: Final = """
:root{color-scheme:light dark;--line:#8885;--soft:#8881;--accent:#0b7a75}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:64rem;padding:1.5rem}
nav ul{columns:16rem;padding-left:1rem}h2{border-bottom:1px solid var(--line);margin-top:2.5rem}
code,pre{font-family:ui-monospace,monospace;font-size:.9em}pre{overflow:auto;background:var(--soft);padding:.75rem}
table{border-collapse:collapse;width:100%}th,td{border-bottom:1px solid var(--line);padding:.3rem .6rem;text-align:left;
vertical-align:top}section{margin:1.5rem 0}.m{color:var(--accent);font-weight:600;text-transform:uppercase}
summary{cursor:pointer}
"""


CONFIG: Final = OpenAPIConfig(
    title="Holdfast API",
    version=__version__,
    description=DESCRIPTION,
    render_plugins=(),
    use_handler_docstrings=True,
    components=Components(
        security_schemes={
            "key": SecurityScheme(
                type="http", scheme="bearer", description="A secret API key, sk_test_… or sk_live_…."
            )
        }
    ),
)


def _name(reference: str) -> str:
    return reference.rsplit("/", 1)[-1]


def _kind(schema: dict[str, Any]) -> str:
    """Return a schema's type in words, as HTML; shapes link to their own section."""
    if "$ref" in schema:
        name = escape(_name(schema["$ref"]))
        return f'<a href="#{name}"><code>{name}</code></a>'
    for key, word in (("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")):
        if key in schema:
            return word.join(_kind(part) for part in schema[key])
    kind = schema.get("type", "anything")
    if kind == "array":
        return "list of " + _kind(schema.get("items", {}))
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(v))}</code>" for v in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "at least"),
            ("maximum", "at most"),
            ("minLength", "at least"),
            ("maxLength", "at most"),
            ("format", "as"),
        )
        if key in schema
    ]
    text = " or ".join(kind) if isinstance(kind, list) else str(kind)
    return escape(", ".join([text, *bounds]))


def _rows(schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = [
        f"<tr><td><code>{escape(name)}</code></td><td>{_kind(field)}</td><td>{'yes' if name in required else ''}</td>"
        f"<td>{escape(str(field.get('description', '')))}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    ]
    if not rows:
        return ""
    head = "<tr><th>field</th><th>type</th><th>always</th><th></th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _body(content: dict[str, Any]) -> str:
    return ", ".join(_kind(media.get("schema", {})) for media in content.values())


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [
        f'<section id="{escape(operation["operationId"])}"><h3><span class="m">{escape(method)}</span> '
        f"<code>{escape(path)}</code></h3><p><strong>{escape(operation.get('summary', ''))}.</strong> "
        f"{escape(operation.get('description', ''))}</p>"
    ]
    parameters = operation.get("parameters", [])
    if parameters:
        rows = "".join(
            f"<tr><td><code>{escape(p['name'])}</code></td><td>{escape(p['in'])}</td><td>{_kind(p.get('schema', {}))}"
            f"</td><td>{escape(p.get('description', ''))}</td></tr>"
            for p in parameters
        )
        parts.append(f"<table><tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>{rows}</table>")
    if "requestBody" in operation:
        parts.append(f"<p>Body: {_body(operation['requestBody'].get('content', {}))}</p>")
    answers = "".join(
        f"<li><code>{escape(status)}</code> {_body(answer.get('content', {}))} "
        f"{escape(answer.get('description', ''))}</li>"
        for status, answer in operation.get("responses", {}).items()
    )
    return "".join([*parts, f"<p>Answers:</p><ul>{answers}</ul></section>"])


def render(document: dict[str, Any]) -> str:
    """Return the page for an OpenAPI document."""
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            by_tag.setdefault(operation.get("tags", ["Other"])[0], []).append((path, method, operation))
    menu = "".join(
        f'<li><a href="#{escape(op["operationId"])}">{escape(op.get("summary", path))}</a></li>'
        for operations in by_tag.values()
        for path, _, op in operations
    )
    sections = "".join(
        f"<h2>{escape(tag)}</h2>" + "".join(_operation(*one) for one in operations)
        for tag, operations in by_tag.items()
    )
    shapes = "".join(
        f'<section id="{escape(name)}"><h3>{escape(name)}</h3><p>{escape(schema.get("description", ""))}</p>'
        f"{_rows(schema)}</section>"
        for name, schema in document.get("components", {}).get("schemas", {}).items()
    )
    info = document["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style><h1>{escape(info['title'])}</h1>"
        f"<p>{escape(info.get('description') or '')}</p><p>As a file: <a href='/openapi.json'>openapi.json</a>. "
        f"Problems: <a href='{PROBLEM_TYPE}'>all codes</a>.</p><nav aria-label='Operations'><ul>{menu}</ul></nav>"
        f"<main>{sections}<h2>Shapes</h2>{shapes}</main></html>"
    )


def _problem_rows(codes: list[str]) -> str:
    return "".join(
        f"<tr><td><a href='{PROBLEM_TYPE}{code}'><code>{code}</code></a></td><td>{TABLE[code].status}</td>"
        f"<td>{escape(TABLE[code].title)}</td><td>{escape(TABLE[code].remedy)}</td></tr>"
        for code in codes
    )


def problems_page(code: str | None = None) -> str:
    """Return the page that explains one problem, or all. Raises: `NotFound`."""
    if code is not None and code not in TABLE:
        raise NotFound("There is no such problem code.")
    title = "Problems" if code is None else TABLE[code].title
    rows = _problem_rows(sorted(TABLE) if code is None else [code])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>"
        f"<table><tr><th>code</th><th>status</th><th>what it is</th><th>what to do</th></tr>{rows}</table></html>"
    )


def _page(text: str) -> Response[str]:
    return Response(text, media_type="text/html; charset=utf-8")


@get("/docs", include_in_schema=False)
async def docs(request: Call) -> Response[str]:
    """Show the API to read."""
    return _page(render(request.app.openapi_schema.to_schema()))


@get("/openapi.json", include_in_schema=False)
async def openapi(request: Call) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    return request.app.openapi_schema.to_schema()


@get(["/problems/", "/problems/{code:str}"], include_in_schema=False)
async def problems(code: str | None = None) -> Response[str]:
    """Explain problem codes."""
    return _page(problems_page(code))


routes = Router("/", route_handlers=[docs, openapi, problems])
