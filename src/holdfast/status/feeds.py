"""Feeds of what was told: Atom (RFC 4287) and RSS 2.0, newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from html import escape
from typing import Final
from xml.etree import ElementTree as ET

from holdfast.status.model import Incident
from holdfast.status.shapes import View
from holdfast.status.words import TAGS

ENTRIES_MAX: Final = 50
_ATOM: Final = "http://www.w3.org/2005/Atom"
_DECLARATION: Final = b'<?xml version="1.0" encoding="UTF-8"?>\n'


def files(view: View) -> dict[str, bytes]:
    """Return the feeds by path."""
    newest = list(view.board.incidents.values())[::-1][:ENTRIES_MAX]
    return {"history.atom": _atom(view, newest), "history.rss": _rss(view, newest)}


def _link(view: View, one: Incident) -> str:
    return f"{view.url}/incidents/{one.id}.html"


def _body(one: Incident) -> str:
    """Return all updates as HTML, newest first, in both languages."""
    parts = []
    for update in reversed(one.updates):
        said = "".join(f'<p lang="{tag}">{escape(update.body.say(tag))}</p>' for tag in TAGS)
        parts.append(f"<p><strong>{update.stage}</strong> {_moment(update.at)}</p>{said}")
    return "".join(parts)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _add(parent: ET.Element, name: str, text: str = "", **attributes: str) -> ET.Element:
    child = ET.SubElement(parent, name, attributes)
    child.text = text or None
    return child


def _atom(view: View, incidents: list[Incident]) -> bytes:
    feed = ET.Element("feed", {"xmlns": _ATOM, "xml:lang": "en"})
    _add(feed, "id", f"{view.url}/history.atom")
    _add(feed, "title", f"{view.title}: status history")
    _add(feed, "updated", _moment(max((one.updated_at for one in incidents), default=view.since)))
    _add(feed, "link", rel="self", type="application/atom+xml", href=f"{view.url}/history.atom")
    _add(feed, "link", rel="alternate", type="text/html", href=f"{view.url}/")
    _add(_add(feed, "author"), "name", view.title)
    for one in incidents:
        entry = _add(feed, "entry")
        _add(entry, "id", _link(view, one))
        _add(entry, "title", f"{one.name.en} / {one.name.say('zh-CN')}")
        _add(entry, "published", _moment(one.created_at))
        _add(entry, "updated", _moment(one.updated_at))
        _add(entry, "link", rel="alternate", type="text/html", href=_link(view, one))
        _add(entry, "category", term=one.stage)
        _add(entry, "content", _body(one), type="html")
    return _written(feed)


def _rss(view: View, incidents: list[Incident]) -> bytes:
    rss = ET.Element("rss", {"version": "2.0"})
    channel = _add(rss, "channel")
    _add(channel, "title", f"{view.title}: status history")
    _add(channel, "link", f"{view.url}/")
    _add(channel, "description", "Incidents, newest first")
    for one in incidents:
        item = _add(channel, "item")
        _add(item, "title", f"{one.name.en} / {one.name.say('zh-CN')}")
        _add(item, "link", _link(view, one))
        _add(item, "guid", _link(view, one), isPermaLink="true")
        _add(item, "pubDate", format_datetime(one.created_at.astimezone(UTC)))
        _add(item, "description", _body(one))
    return _written(rss)


def _written(root: ET.Element) -> bytes:
    written: bytes = ET.tostring(root, encoding="utf-8")
    return _DECLARATION + written
