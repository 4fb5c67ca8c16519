"""Line pictures of a drill as SVG that can be read aloud.

Each has a title, a description and its data as a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

WIDTH: Final = 720
HEIGHT: Final = 320
LEFT: Final = 72
RIGHT: Final = 24
TOP: Final = 18
BOTTOM: Final = 44
"""The margins hold the axes' figures in the larger font of narrow screens, too."""
TICKS: Final = 4
TABLE_ROWS_MAX: Final = 24
BIN_PAYMENTS_MIN: Final = 150
"""Fewer payments in a bin than this and chance, not the outage, bends the lines: then bins grow wider."""
BINS_MIN: Final = 16
"""But a picture keeps at least so many bins, or it would not show when things happen."""


@dataclass(frozen=True, slots=True)
class Words:
    """A text in both languages."""

    en: str
    zh: str

    def html(self) -> Markup:
        """Return both texts, of which the page shows one."""
        return Markup('<span lang="en">{}</span><span lang="zh-CN">{}</span>').format(self.en, self.zh)


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, its style (a class of the page's stylesheet), its values, one per step."""

    name: Words
    style: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Picture:
    """Lines over simulated time; `bands` are the faults as (from_s, to_s, what).

    `offset_s`: how far into its step a value is drawn: half a step for rates, 0 for what was looked at then.
    """

    id: str
    title: Words
    about: Words
    unit: Words
    step_s: int
    lines: Sequence[Line]
    bands: Sequence[tuple[float, float, str]]
    offset_s: float = 0.0

    def svg(self) -> Markup:
        """Return the picture."""
        steps = max(len(line.values) for line in self.lines)
        span_s = max(1.0, (steps - 1) * self.step_s + 2 * self.offset_s)
        top = nice(max((max(line.values, default=0) for line in self.lines), default=1))
        parts = [
            Markup(
                '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{}-t {}-d" '
                'preserveAspectRatio="xMidYMid meet">'
            ).format(WIDTH, HEIGHT, self.id, self.id),
            Markup('<title id="{}-t">{} / {}</title>').format(self.id, self.title.en, self.title.zh),
            Markup('<desc id="{}-d">{} / {}</desc>').format(self.id, self.about.en, self.about.zh),
            *self._bands(span_s),
            *self._axes(span_s, top),
            *(self._path(line, span_s, top) for line in self.lines),
            Markup("</svg>"),
        ]
        return Markup("").join(parts)

    def _x(self, second: float, span_s: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, second / span_s), 1)

    @staticmethod
    def _y(value: float, top: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top, 1)

    def _bands(self, span_s: float) -> list[Markup]:
        height = HEIGHT - TOP - BOTTOM
        drawn = []
        for from_s, to_s, what in self.bands:
            x, end = self._x(from_s, span_s), self._x(to_s, span_s)
            drawn.append(
                Markup(
                    '<rect class="band" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
                ).format(x, TOP, max(1.0, round(end - x, 1)), height, what)
            )
        return drawn

    def _axes(self, span_s: float, top: float) -> list[Markup]:
        drawn = []
        for tick in range(TICKS + 1):
            value = top * tick / TICKS
            y = self._y(value, top)
            drawn.append(
                Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
                    LEFT, y, WIDTH - RIGHT, y
                )
            )
            drawn.append(
                Markup('<text class="tick end" x="{}" y="{}" dy="0.35em">{}</text>').format(
                    LEFT - 8, y, axis_text(value)
                )
            )
        minutes = max(1, round(span_s / 60 / 8))
        for minute in range(0, int(span_s // 60) + 1, minutes):
            x = self._x(minute * 60, span_s)
            drawn.append(
                Markup('<text class="tick mid" x="{}" y="{}">{}′</text>').format(x, HEIGHT - 13, minute)
            )
        return drawn

    def _path(self, line: Line, span_s: float, top: float) -> Markup:
        points = " ".join(
            f"{self._x(at * self.step_s + self.offset_s, span_s)},{self._y(min(value, top), top)}"
            for at, value in enumerate(line.values)
        )
        return Markup('<polyline class="line {}" points="{}"/>').format(line.style, points)

    def table(self) -> Markup:
        """Return the data as a table of at most 24 rows; a row sums or averages the steps that it covers."""
        steps = max(len(line.values) for line in self.lines)
        each = max(1, -(-steps // TABLE_ROWS_MAX))
        head = Markup("").join(
            Markup('<th scope="col">{}</th>').format(line.name.html()) for line in self.lines
        )
        rows = []
        for start in range(0, steps, each):
            cells = Markup("").join(
                Markup("<td>{}</td>").format(mean_text(line.values[start : start + each]))
                for line in self.lines
            )
            at = start * self.step_s
            rows.append(Markup('<tr><th scope="row">{}:{:02d}</th>{}</tr>').format(at // 60, at % 60, cells))
        return Markup(
            "<table><caption>{}</caption><thead><tr><th scope=col>{}</th>{}</tr></thead>"
            "<tbody>{}</tbody></table>"
        ).format(self.unit.html(), Words("min:s", "分:秒").html(), head, Markup("").join(rows))


def nice(most: float) -> float:
    """Return a round number at or above `most`, for the top of an axis."""
    if most <= 0:
        return 1.0
    size = 1.0
    while size * 10 <= most:
        size *= 10
    while size > most:
        size /= 10
    return next(size * step for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10) if size * step >= most)


def mean_text(values: Sequence[float]) -> str:
    """Write the mean of some values, to a tenth where it is not whole."""
    if not values:
        return "–"
    return f"{sum(values) / len(values):.1f}".removesuffix(".0")


def axis_text(value: float) -> str:
    """Write a figure of an axis in at most five characters, such as 22.5k."""
    for least, unit in ((1_000_000, "M"), (10_000, "k")):
        if value >= least:
            return f"{value / (1000 if unit == 'k' else least):g}{unit}"
    return f"{value:g}"


def per_second(counts: Sequence[float], step_s: int, each: int = 1) -> list[float]:
    """Return counts per step as rates per second, `each` steps taken together."""
    bins = [counts[at : at + each] for at in range(0, len(counts), each)]
    return [sum(one) / (step_s * len(one)) for one in bins]


def steps_together(came: Sequence[float]) -> int:
    """Return how many steps of a timeline to take together so that their rates are more than chance."""
    each = 1
    while sum(came) / max(1, len(came)) * each < BIN_PAYMENTS_MIN and len(came) // (each + 1) >= BINS_MIN:
        each += 1
    return each


def _rate_lines(timeline: Mapping[str, object], each: int) -> tuple[list[Line], list[Line]]:
    """Return the lines of what was completed and of where it was tried first, `each` steps taken together."""
    step_s = _whole(timeline["step_s"])
    completed, tries = timeline["completed"], timeline["first_tries"]
    if not isinstance(completed, Mapping) or not isinstance(tries, Mapping):
        raise TypeError("the timeline holds completed and first_tries by name")

    def rates(counts: object) -> list[float]:
        return per_second(_whole_steps(counts), step_s, each)

    done = [
        Line(Words("possible", "可完成"), "possible", rates(timeline["possible"])),
        *(
            Line(NAMES[name], name, rates(completed[name]))
            for name in ("single", "retry", "blind", "holdfast")
            if name in completed
        ),
    ]
    sent = [
        Line(rail_words(name), f"rail{at % 6}", rates(counts))
        for at, (name, counts) in enumerate(tries.items())
    ]
    return done, sent


def _whole_steps(counts: object) -> list[float]:
    """Return the counts without the last step, which is only begun."""
    numbers = _numbers(counts)
    return numbers[:-1] if len(numbers) > 1 else numbers


def pictures(timeline: Mapping[str, object], faults: Sequence[Mapping[str, object]]) -> list[Picture]:
    """Return the three pictures of a drill: what was completed, where payments were sent, how many waited."""
    step_s = _whole(timeline["step_s"])
    bands = [(_number(f["from_s"]), _number(f["to_s"]), _band_text(f)) for f in faults]
    each = steps_together(_whole_steps(timeline["came"]))
    done, sent = _rate_lines(timeline, each)
    waiting = [Line(Words("waiting", "等待中"), "holdfast", _numbers(timeline["waiting"]))]
    wide_s = step_s * each
    rate = Words(f"payments a second, over {wide_s} s each", f"每秒付款数，每点取 {wide_s} 秒")
    return [
        Picture(
            "done",
            Words("Completed in time, by when the payer came", "按时完成（按付款人到来的时刻）"),
            Words(
                "What was possible, and what Holdfast and the three baselines completed. Shaded: faults.",
                "可完成的、Holdfast 完成的、三种对照做法完成的。阴影：故障。",
            ),
            rate,
            wide_s,
            done,
            bands,
            wide_s / 2,
        ),
        Picture(
            "sent",
            Words("Where payments were tried first", "首选通道"),
            Words("First tries on each rail. Shaded: faults.", "各通道的首次尝试。阴影：故障。"),
            rate,
            wide_s,
            sent,
            bands,
            wide_s / 2,
        ),
        Picture(
            "wait",
            Words("Payers waiting for their answer", "等待结果的付款人"),
            Words(
                "Payments that have no final answer yet. Shaded: faults.", "尚无最终结果的付款。阴影：故障。"
            ),
            Words("payments", "笔"),
            step_s,
            waiting,
            bands,
        ),
    ]


NAMES: Final = {
    "holdfast": Words("Holdfast", "Holdfast"),
    "single": Words("one rail", "单一通道"),
    "retry": Words("retry on the same rail", "同通道重试"),
    "blind": Words("blind cascade", "盲目切换"),
}

RAIL_NAMES_ZH: Final = {
    "acquirer-one": "收单机构一",
    "acquirer-two": "收单机构二",
    "cards": "银行卡",
    "cloud-cards": "云端卡通道",
    "cloud-wallet": "云端钱包",
    "direct-debit": "直接扣款",
    "instant-transfer": "即时转账",
    "other-cards": "其他卡通道",
    "provider-east": "东区服务商",
    "provider-west": "西区服务商",
    "server": "服务器",
}
"""Names in the scenarios that come with Holdfast that are words; a brand's name stays as it is."""


def rail_words(name: str) -> Words:
    """Return a rail's name in both languages."""
    return Words(name, RAIL_NAMES_ZH.get(name, name))


FAULT_WORDS: Final = {
    "gray": Words(
        "some answers are lost or late, while health checks pass", "健康检查通过，但部分应答丢失或迟到"
    ),
    "hang": Words("requests are held", "请求被扣住"),
    "dark": Words("requests are taken and never answered", "收下请求而不应答"),
    "refuse": Words("connections are refused", "拒绝连接"),
    "unresolvable": Words("its name resolves to nothing", "域名解析落空"),
    "decline_spike": Words("it declines what it would accept", "拒绝本应接受的付款"),
    "slow": Words("it is slow", "变慢"),
    "brownout": Words(
        "requests end in errors, some after they were carried out", "请求报错，其中一些其实已执行"
    ),
    "ack_then_silent": Words("it acknowledges, then says nothing", "先收下，再沉默"),
    "status_query_storm": Words("status queries take the place of payments", "查单请求挤掉付款"),
    "restart_storm": Words("everybody comes back at once", "人人同时回来"),
    "kill_server": Words("the server process is killed (kill -9)", "服务器进程被强杀（kill -9）"),
}


def fault_words(kind: object) -> Words:
    """Return what a kind of fault does, in both languages."""
    return FAULT_WORDS.get(str(kind), Words(str(kind), str(kind)))


def _band_text(fault: Mapping[str, object]) -> str:
    where, what = rail_words(str(fault["target"])), fault_words(fault["kind"])
    return f"{where.en}: {what.en} / {where.zh}：{what.zh}"


def _numbers(values: object) -> list[float]:
    if not isinstance(values, list):
        raise TypeError("a line is a list of numbers")
    return values


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError("a moment is a number of seconds")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("a step is a whole number of seconds")
    return value


def legend(line: Line) -> Markup:
    """Return a line's mark and name for the legend."""
    return Markup(
        '<li><svg class="key" viewBox="0 0 24 8" aria-hidden="true"><line class="line {}" '
        'x1="0" y1="4" x2="24" y2="4"/></svg>{}</li>'
    ).format(escape(line.style), line.name.html())
