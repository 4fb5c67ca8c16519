"""Bars of 90 days, as SVG that says in words what each bar shows."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from holdfast.status.phrases import STANDING_WORDS
from holdfast.status.uptime import Day
from holdfast.status.words import Tag, Words

_LABEL = Words("The last 90 days of %s", "%s近 90 天")
_UNKNOWN = Words("not known", "未知")


class Bars:
    """Draws bars; those of days that are over are kept while they stay as they were."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, Tag], tuple[Sequence[Day], Markup]] = {}

    def drawn(self, component: str, name: str, days: Sequence[Day], tag: Tag) -> Markup:
        """Return the bars of a component."""
        past = days[:-1]
        kept = self._kept.get((component, tag))
        if kept is None or kept[0] != past:
            bars = Markup("").join(_bar(place, day, tag) for place, day in enumerate(past))
            head = Markup(
                '<svg class="bars" viewBox="0 0 450 32" preserveAspectRatio="none" role="img" '
                'aria-label="%s">'
            )
            kept = self._kept[component, tag] = (past, head % (_LABEL.say(tag) % name) + bars)
        return kept[1] + _bar(len(past), days[-1], tag) + Markup("</svg>")


def _bar(place: int, day: Day, tag: Tag) -> Markup:
    if day.share_up is None:
        kind = "under_maintenance" if day.maintained_s else "none"
        said = STANDING_WORDS["under_maintenance"].say(tag) if day.maintained_s else _UNKNOWN.say(tag)
    else:
        kind, said = day.standing, f"{STANDING_WORDS[day.standing].say(tag)}, {day.share_up * 100:.2f} %"
        if day.maintained_s:
            said += f" ({STANDING_WORDS['under_maintenance'].say(tag)} {day.maintained_s / 60:.0f} min)"
    title = f"<title>{day.date}: {escape(said)}</title>"
    return Markup(f'<rect x="{place * 5}" width="4" height="32" class="{kind}">{title}</rect>')  # noqa: S704
