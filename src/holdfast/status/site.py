"""The static site: pages without a script, JSON and feeds, each signed, made anew only where they changed.

What is over changes no more: its pages are made once and kept as they are until their signature is about to
end. So the time from a decision to the site does not grow with the years.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from holdfast.status import badges, feeds, forecast, shapes, trends, uptime
from holdfast.status.bars import Bars
from holdfast.status.maintenance import calendar
from holdfast.status.maintenance.plan import KIND_WORDS, PAST, RETRY_WORDS, STATE_WORDS, Maintenance
from holdfast.status.model import Incident
from holdfast.status.notices import genuine
from holdfast.status.notices.letters import MOMENT_WORDS
from holdfast.status.phrases import CAUSE_WORDS, HEADLINES, STAGE_WORDS, STANDING_WORDS
from holdfast.status.seal import MANIFEST, Signer
from holdfast.status.shapes import View
from holdfast.status.words import NAMES, TAGS, Tag, Words, moment, place

FRESH_FOR: Final = timedelta(minutes=10)
"""How long a page that may change can be believed; the site is published anew at least once a minute."""
OLD_FOR: Final = timedelta(days=30)
"""How long a page of something that is over can be believed; it is signed anew after half of that."""
PAST_MAX: Final = 50
"""Windows of maintenance that are over and still listed."""


class Site:
    """Makes the files of the site. Keeps what did not change."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._kept: dict[str, tuple[object, datetime, bytes]] = {}
        """By path: what it was made from, until when it may be believed, and the page."""
        self._sums: dict[str, tuple[bytes, str]] = {}
        self._bars = Bars()
        self._past: uptime.Past | None = None

    def files(self, view: View, *, unmeasured: bool) -> dict[str, bytes]:
        """Return every file of the site by path."""
        fresh_until = view.at + FRESH_FOR
        self._past = self._past or uptime.Past(view.graph)
        history = self._past.days(uptime.periods(view.board), view.at, view.since)
        made: dict[str, bytes] = {}
        for tag in TAGS:
            for name, html in self._changing(view, tag, history, unmeasured=unmeasured).items():
                path = place(tag, name)
                made[path] = self._signer.page(path, fresh_until, html)
            for one in view.board.incidents.values():
                path = place(tag, f"incidents/{one.id}.html")
                made[path] = self._incident(view, tag, one, path)
            made |= self._maintenance(view, tag)
        made |= shapes.files(view) | feeds.files(view) | badges.files(view)
        made[genuine.FILE] = genuine.encoded(view.official, view.notices)
        made["key.txt"] = self._signer.public_key.encode() + b"\n"
        self._kept = {path: kept for path, kept in self._kept.items() if path in made}
        sums = {path: self._sum(path, content) for path, content in made.items()}
        self._sums = {path: (made[path], value) for path, value in sums.items()}
        made[MANIFEST] = self._signer.manifest(fresh_until, sums)
        return made

    def _sum(self, path: str, content: bytes) -> str:
        before = self._sums.get(path)
        if before is not None and before[0] is content:
            return before[1]
        return hashlib.sha256(content).hexdigest()

    def _changing(
        self, view: View, tag: Tag, history: dict[str, list[uptime.Day]], *,
        unmeasured: bool,
    ) -> dict[str, bytes]:  # fmt: skip
        values = _values(view, self._signer.public_key)
        overall = shapes.overall(view)
        newest = list(view.board.incidents.values())[::-1]
        rows = [self._row(view, id_, history[id_], tag) for id_ in view.graph.components]
        return {
            "index.html": _render(
                "index.html", tag, **values, path="", headline=HEADLINES[overall], overall=overall,
                rows=rows, open=view.board.open, newest=newest[:5], unmeasured=unmeasured,
                valid_until=view.at + FRESH_FOR, planned=view.board.maintenance.public,
            ),
            "banner.html": _render(
                "banner.html", tag, **values, path="banner.html", headline=HEADLINES[overall],
                overall=overall, rows=[row for row in rows if row["one"].kind == "capability"],
            ),
            "history.html": _render(
                "history.html", tag, **values, path="history.html", months=_months(newest),
                record=forecast.so_far(view.board),
            ),
            "subscribe.html": _render(
                "subscribe.html", tag, **values, path="subscribe.html", mail=view.mail, zone=view.zone
            ),
            "really.html": _render(
                "really.html", tag, **values, path="really.html", verdicts=genuine.SAID,
                known={"official": msgspec.to_builtins(view.official), "notices": view.notices},
            ),
        }  # fmt: skip

    def _row(self, view: View, id_: str, history: list[uptime.Day], tag: Tag) -> dict[str, Any]:
        board, one = view.board, view.graph.components[id_]
        measured = board.measured.get(id_)
        said = board.said(id_)
        differ = measured is not None and measured.standing is not None and measured.standing != said
        return {
            "one": one,
            "standing": view.standings[id_],
            "roots": [view.graph.components[root].name.say(tag) for root in _others(view, id_)],
            "measured": measured,
            "said": said,
            "differ": differ,
            "bars": self._bars.drawn(id_, one.name.say(tag), history, tag),
            "share_up": uptime.share_up(history),
            "curve": ""
            if view.trends is None
            else trends.curve_of_day(one.name.say(tag), view.trends.of(id_, view.at), view.at, tag),
        }

    def _maintenance(self, view: View, tag: Tag) -> dict[str, bytes]:
        """Return the pages of maintenance, and its calendar."""
        every = [one for one in view.board.maintenance.every.values() if one.state != "proposed"]
        past = sorted(
            (one for one in every if one.state in PAST), key=lambda one: one.starts_at, reverse=True
        )
        html = _render(
            "maintenance.html", tag, **_values(view, self._signer.public_key), path="maintenance.html",
            planned=view.board.maintenance.public, past=past[:PAST_MAX], valid_until=view.at + FRESH_FOR,
        )  # fmt: skip
        fresh_until = view.at + FRESH_FOR
        made = {
            place(tag, "maintenance.html"): self._signer.page(
                place(tag, "maintenance.html"), fresh_until, html
            )
        }
        for one in every:
            path = place(tag, f"maintenance/{one.id}.html")
            made[path] = self._lasting(view, path, one, over=one.state in PAST, render=partial(
                _render, "window.html", tag, **_values(view, self._signer.public_key), one=one,
                path=f"maintenance/{one.id}.html", effects=calendar.effects(one, view.graph, tag),
            ))  # fmt: skip
        made[place(tag, "maintenance.ics")] = calendar.written(
            view.title, view.url, every, view.graph, tag, view.at
        )
        return made

    def _incident(self, view: View, tag: Tag, one: Incident, path: str) -> bytes:
        return self._lasting(view, path, one, over=not one.open, render=partial(
            _render, "incident.html", tag, **_values(view, self._signer.public_key), one=one,
            path=f"incidents/{one.id}.html", components=view.graph.components,
            curves=[trends.curve_of_incident(_name(view, n.component, tag), n, tag) for n in one.numbers],
        ))  # fmt: skip

    def _lasting(
        self, view: View, path: str, one: Incident | Maintenance, *, over: bool, render: Callable[[], bytes]
    ) -> bytes:
        """Return a page that changes no more once what it tells of is over."""
        kept = self._kept.get(path)
        if kept is not None and kept[0] is one and over and kept[1] - view.at > OLD_FOR / 2:
            return kept[2]
        until = view.at + (OLD_FOR if over else FRESH_FOR)
        page = self._signer.page(path, until, render())
        self._kept[path] = (one, until, page)
        return page


def page(view: View, key: str, tag: Tag, template: str, **values: Any) -> bytes:  # noqa: ANN401 - whatever a page shows
    """Return a page that is made for one reader."""
    return _render(template, tag, **(_values(view, key) | {"path": "", "view": view} | values))


def said(view: View, key: str, tag: Tag, heading: Words, text: Words, button: str) -> bytes:
    """Return a page that tells one thing, with a button if there is something to do."""
    values = _values(view, key) | {"path": "", "heading": heading, "text": text, "button": button}
    return _render("said.html", tag, **values, prefix=f"{view.url}/")


def _values(view: View, key: str) -> dict[str, Any]:
    return {"title": view.title, "url": view.url, "at": view.at, "key": key, "graph": view.graph}


def _others(view: View, id_: str) -> list[str]:
    return [root for root in view.graph.roots(view.own, view.standings, id_) if root != id_]


def _name(view: View, component: str, tag: Tag) -> str:
    known = view.graph.components.get(component)
    return component if known is None else known.name.say(tag)


def _months(incidents: list[Incident]) -> list[tuple[str, list[Incident]]]:
    months: dict[str, list[Incident]] = {}
    for one in incidents:
        months.setdefault(one.started_at.astimezone(UTC).strftime("%Y-%m"), []).append(one)
    return list(months.items())


def _render(template: str, tag: Tag, **values: Any) -> bytes:  # noqa: ANN401 - whatever a page shows
    prefix = "../" * (place(tag, str(values["path"])).count("/"))
    root = values.pop("prefix", prefix)
    return _environment(tag).get_template(template).render(root=root, **values).encode()


@lru_cache(maxsize=len(TAGS))
def _environment(tag: Tag) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def t(en: str, zh: str) -> str:
        return zh if tag == "zh-CN" else en

    say: Callable[[Words], str] = lambda words: words.say(tag)  # noqa: E731 - a filter
    environment.globals |= {
        "t": t, "lang": tag, "names": NAMES, "place": place, "standings": STANDING_WORDS,
        "stages": STAGE_WORDS, "causes": CAUSE_WORDS, "states": STATE_WORDS, "moments": MOMENT_WORDS,
        "kinds": KIND_WORDS, "retries": RETRY_WORDS,
    }  # fmt: skip
    environment.filters |= {"say": say, "moment": moment, "percent": _percent, "data": _data}
    environment.filters["since"] = _since(tag)
    return environment


def _data(value: object) -> Markup:
    """Write a value as JSON that cannot end the script element that it stands in."""
    return Markup(msgspec.json.encode(value).decode().replace("<", "\\u003c"))  # noqa: S704 - see above


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.2f} %"


def _since(tag: Tag) -> Callable[[timedelta], str]:
    """Return what writes how long something has been so, in whole units of a reader's sense."""

    def write(span: timedelta) -> str:
        seconds = max(0, int(span.total_seconds()))
        for size, en, zh in ((86_400, "d", "天"), (3_600, "h", "小时"), (60, "min", "分钟")):
            if seconds >= size:
                return f"{seconds // size} {zh if tag == 'zh-CN' else en}"
        return f"{seconds} {'秒' if tag == 'zh-CN' else 's'}"

    return write
