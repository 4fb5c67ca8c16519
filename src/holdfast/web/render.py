"""Templates into answers: one environment per language, and headers that let a page run nothing foreign."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import MediaType, Response

from holdfast.web.locale import LOCALES, NAMES, Language, translations

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"
_VERSION_CHARS: Final = 12

SECURITY_HEADERS: Final[dict[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Sent with every page. No inline script or style, nothing from elsewhere, in nobody's frame."""


@lru_cache(maxsize=1)
def static_version() -> str:
    """Return a name for the present content of all static files, so that browsers may keep them for good."""
    digest = sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:_VERSION_CHARS]


@lru_cache(maxsize=len(LOCALES))
def _environment(tag: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.install_gettext_translations(translations(tag), newstyle=True)  # type: ignore[attr-defined]
    language = Language(tag)
    environment.globals |= {"lang": tag, "languages": NAMES, "static_version": static_version()}
    environment.filters |= {"money": language.money, "seconds": language.seconds, "moment": language.moment}
    environment.filters |= {"say": language.say, "mark": language.mark, "lasted": language.lasted}
    return environment


def text(template: str, language: Language, **values: object) -> str:
    """Return `template` filled in."""
    return _environment(language.tag).get_template(template).render(**values)


def page(template: str, language: Language, *, status: int = 200, **values: object) -> Response[str]:
    """Return `template` filled in, as a page."""
    return Response(
        text(template, language, **values),
        status_code=status,
        media_type=MediaType.HTML,
        headers={**SECURITY_HEADERS, "Content-Language": language.tag, "Vary": "Accept-Language, Cookie"},
    )
