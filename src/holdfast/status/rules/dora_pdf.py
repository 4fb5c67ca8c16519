"""A report to read and to print: title, countdown, table of fields. The same report is always the same bytes.

Text with Chinese in it is set in STSong-Light, which readers of PDF bring along; the rest in Helvetica.
"""

from __future__ import annotations

from html import escape
from io import BytesIO
from typing import Any, Final

from reportlab.lib import colors  # type: ignore[import-untyped]
from reportlab.lib.pagesizes import A4  # type: ignore[import-untyped]
from reportlab.lib.styles import ParagraphStyle  # type: ignore[import-untyped]
from reportlab.lib.units import mm  # type: ignore[import-untyped]
from reportlab.pdfbase import pdfmetrics  # type: ignore[import-untyped]
from reportlab.pdfbase.cidfonts import UnicodeCIDFont  # type: ignore[import-untyped]
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table  # type: ignore[import-untyped]

from holdfast.status.rules.assessment import GRADES, Deadline, show
from holdfast.status.rules.dora_report import Field, Report
from holdfast.status.rules.dora_values import moment
from holdfast.status.words import Tag, Words

CHINESE: Final = "STSong-Light"
TITLE: Final = Words("Report of a major ICT-related incident", "重大信息通信技术事件报告")
LAW: Final = Words(
    "Implementing Regulation (EU) 2025/302. Prepared automatically; no legal advice.",
    "依据欧盟实施条例 (EU) 2025/302。自动生成，不构成法律意见。",
)
DUE: Final = (Words("What", "事项"), Words("Due (UTC)", "截止（UTC）"), Words("Left", "剩余"))
HEAD: Final = (Words("Field", "字段"), Words("Name", "名称"), Words("Value", "内容"))
MISSING: Final = Words("MISSING", "缺失")
LATE: Final = Words("late by", "逾期")
DONE: Final = Words("done", "已完成")
MOVED: Final = Words("moved to the next working day", "顺延至下一工作日")
PROJECTED: Final = Words("projected", "预计")


def as_pdf(report: Report, tag: Tag = "en") -> bytes:
    """Return a report as PDF (A4) in a language. Values stand as the template wants them, in English."""
    pdfmetrics.registerFont(UnicodeCIDFont(CHINESE))
    out = BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        invariant=1,
        leftMargin=18 * mm,
        rightMargin=18 * mm,
        topMargin=16 * mm,
        bottomMargin=16 * mm,
        title=f"{report.incident}: {report.submission}",
    )
    grade = GRADES[report.grade].say(tag)
    story: list[Any] = [
        _text(TITLE.say(tag), 16),
        Spacer(1, 3 * mm),
        _text(f"{report.incident} · {report.submission} · {report.firm} · {grade} · {moment(report.at)}", 10),
        _text(LAW.say(tag), 8),
        Spacer(1, 4 * mm),
        _table([DUE, *(_due(due, tag) for due in report.deadlines)], (96, 42, 36), tag),
        Spacer(1, 4 * mm),
        _table([HEAD, *(_field(field, tag) for field in report.fields if _shown(field))], (14, 66, 94), tag),
    ]
    document.build(story)
    return out.getvalue()


def _text(text: str, size: int) -> Paragraph:
    font = CHINESE if any(ord(letter) > 0x2E7F or letter in "“”‘’" for letter in text) else "Helvetica"
    wrap = "CJK" if font == CHINESE else None
    style = ParagraphStyle(
        "text", fontName=font, fontSize=size, leading=size * 1.3, wordWrap=wrap, splitLongWords=1
    )
    return Paragraph(escape(text).replace("\n", "<br/>"), style)


def _table(rows: list[tuple[Words | str, ...]], widths_mm: tuple[int, ...], tag: Tag) -> Table:
    cells = [[_text(cell.say(tag) if isinstance(cell, Words) else cell, 8) for cell in row] for row in rows]
    return Table(
        cells,
        colWidths=[width * mm for width in widths_mm],
        repeatRows=1,
        splitInRow=1,
        style=[
            ("GRID", (0, 0), (-1, -1), 0.4, colors.grey),
            ("BACKGROUND", (0, 0), (-1, 0), colors.whitesmoke),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ],
    )


def _shown(field: Field) -> bool:
    return field.asked or field.value not in (None, "", ())


def _field(field: Field, tag: Tag) -> tuple[Words | str, ...]:
    if field.missing:
        return field.field, field.name, MISSING.say(tag)
    value = "\n".join(field.value) if isinstance(field.value, tuple) else str(field.value)
    return field.field, field.name, value


def _due(due: Deadline, tag: Tag) -> tuple[Words | str, ...]:
    notes = [note.say(tag) for note, holds in ((MOVED, due.moved), (PROJECTED, due.projected)) if holds]
    what = due.words.say(tag) + (f" ({', '.join(notes)})" if notes else "")
    left = "-"
    if due.done_at is not None:
        left = DONE.say(tag)
    elif due.remaining is not None:
        seconds = due.remaining.total_seconds()
        left = (f"{LATE.say(tag)} " if seconds < 0 else "") + show(seconds, "seconds").say(tag)
    return what, moment(due.due) or "-", left
