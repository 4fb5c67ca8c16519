"""Badges: how one thing stands, as a small picture for other people's pages.

`badge/ID.svg` for each component and `badge/all.svg` for the whole, and the same under `zh/`. The words are
in the picture and in its label; the colour only repeats them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from markupsafe import escape

from holdfast.status import shapes
from holdfast.status.model import Standing
from holdfast.status.phrases import STANDING_WORDS
from holdfast.status.shapes import View
from holdfast.status.words import TAGS, Tag, place

_COLOURS: Final[dict[Standing, str]] = {
    "operational": "#14713f",
    "under_maintenance": "#2557a7",
    "degraded_performance": "#8a5a00",
    "partial_outage": "#b04a00",
    "major_outage": "#b3261e",
}
"""White on each of them has a contrast of 4.5 to 1 at least (WCAG 2.2, 1.4.3)."""
_NARROW_PX: Final = 7
_WIDE_PX: Final = 13
_PAD_PX: Final = 10


def files(view: View) -> dict[str, bytes]:
    """Return the badges by path."""
    made: dict[str, bytes] = {}
    for tag in TAGS:
        made[place(tag, "badge/all.svg")] = badge(view.title, shapes.overall(view), tag)
        for id_, one in view.graph.components.items():
            made[place(tag, f"badge/{id_}.svg")] = badge(one.name.say(tag), view.standings[id_], tag)
    return made


@lru_cache(maxsize=10_000)
def badge(name: str, standing: Standing, tag: Tag) -> bytes:
    """Return a badge as SVG."""
    said = STANDING_WORDS[standing].say(tag)
    left, right = _width(name), _width(said)
    label = escape(f"{name}: {said}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="22" role="img"'
        f' aria-label="{label}">'
        f"<title>{label}</title>"
        f'<rect width="{left}" height="22" fill="#33404d"/>'
        f'<rect x="{left}" width="{right}" height="22" fill="{_COLOURS[standing]}"/>'
        '<g fill="#fff" font-family="system-ui,sans-serif" font-size="12">'
        f'<text x="{_PAD_PX}" y="15">{escape(name)}</text>'
        f'<text x="{left + _PAD_PX}" y="15">{escape(said)}</text></g></svg>'
    ).encode()


def _width(text: str) -> int:
    """Return about how wide a text is, with its margins, pixels."""
    return 2 * _PAD_PX + sum(_WIDE_PX if ord(each) > 0x2E80 else _NARROW_PX for each in text)
