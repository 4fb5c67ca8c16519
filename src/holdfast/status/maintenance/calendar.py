"""The calendar of maintenance, for people's own calendars (iCalendar, RFC 5545)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from icalendar import Calendar, Event

from holdfast.status.graph import Graph
from holdfast.status.maintenance.plan import KIND_WORDS, RETRY_WORDS, Maintenance
from holdfast.status.words import Tag, place

KEPT: Final = timedelta(days=90)
"""Windows that are over stay for so long."""


def written(title: str, url: str, every: list[Maintenance], graph: Graph, tag: Tag, now: datetime) -> bytes:
    """Return the calendar in one language."""
    made = Calendar()
    made.add("prodid", "-//Holdfast//Status//EN")
    made.add("version", "2.0")
    made.add("method", "PUBLISH")
    made.add("name", title)
    made.add("x-wr-calname", title)
    made.add("refresh-interval", timedelta(hours=1), parameters={"VALUE": "DURATION"})
    for one in every:
        if one.state != "proposed" and one.ends_at > now - KEPT:
            made.add_component(_event(title, url, one, graph, tag))
    content: bytes = made.to_ical()
    return content


def _event(title: str, url: str, one: Maintenance, graph: Graph, tag: Tag) -> Event:
    event = Event()
    event.add("uid", f"{one.id}@holdfast")
    event.add("dtstamp", one.updated_at.astimezone(UTC))
    event.add("last-modified", one.updated_at.astimezone(UTC))
    event.add("sequence", one.sequence)
    event.add("dtstart", one.starts_at.astimezone(UTC))
    event.add("dtend", one.ends_at.astimezone(UTC))
    event.add("summary", f"{title}: {one.name.say(tag)}")
    event.add(
        "description",
        "\n".join((one.body.say(tag), *effects(one, graph, tag), RETRY_WORDS[one.retry].say(tag))),
    )
    event.add("status", "CANCELLED" if one.state == "cancelled" else "CONFIRMED")
    event.add("transp", "TRANSPARENT")
    event.add("url", page(url, one, tag))
    return event


def page(url: str, one: Maintenance, tag: Tag) -> str:
    """Return the address of the page of a window."""
    return f"{url}/{place(tag, f'maintenance/{one.id}.html')}"


def effects(one: Maintenance, graph: Graph, tag: Tag) -> list[str]:
    """Return what happens to each component, in words."""
    lines = []
    for effect in one.effects:
        known = graph.components.get(effect.component)
        name = effect.component if known is None else known.name.say(tag)
        line = (
            f"{name}: {KIND_WORDS[effect.kind].say(tag)}"
            if tag == "en"
            else f"{name}：{KIND_WORDS[effect.kind].zh}"
        )
        if effect.longest_s is not None:
            span = _span(effect.longest_s, tag)
            times = f", {effect.cuts} times" if effect.cuts > 1 else ", once"
            line += f"{times}, {span} each at most" if tag == "en" else f"，{effect.cuts} 次，每次最长 {span}"
        lines.append(line)
    return lines


def _span(seconds: int, tag: Tag) -> str:
    for size, en, zh in ((3_600, "h", "小时"), (60, "min", "分钟")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {zh if tag == 'zh-CN' else en}"
    return f"{seconds} {'秒' if tag == 'zh-CN' else 's'}"
