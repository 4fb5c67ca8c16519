"""Writes a drill's report.

JSON with stable keys, and one self-contained page with pictures, in two languages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import jinja2

from holdfast.drills.pictures import NAMES, Words, legend, pictures

Figures = Mapping[str, object]
LONG_S: Final = 300
"""From here a duration is written in minutes."""


def to_json(figures: Figures) -> str:
    """Return the report as JSON; the same figures give the same text."""
    return json.dumps(figures, ensure_ascii=False, indent=1) + "\n"


def write_json(figures: Figures, file: Path) -> None:
    """Write the JSON report to `file`, with the folder that holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(to_json(figures), encoding="utf-8")


def write_html(figures: Figures, folder: Path) -> Path:
    """Write the page (`NAME.html`) and the JSON (`NAME.json`) into `folder`; return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = str(figures["scenario"])
    write_json(figures, folder / f"{name}.json")
    page = folder / f"{name}.html"
    page.write_text(to_html(figures), encoding="utf-8")
    return page


def to_html(figures: Figures) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("holdfast.drills", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["share"] = share_text
    environment.filters["seconds"] = seconds_text
    about = cast("Figures", figures["about"])
    timeline = cast("Figures", figures.get("timeline") or {})
    faults = cast("Sequence[Figures]", about["faults"])
    return environment.get_template("report.html.j2").render(
        figures=figures,
        about=about,
        faults=[
            {
                **fault,
                "words": FAULT_WORDS.get(str(fault["kind"]), Words(str(fault["kind"]), str(fault["kind"]))),
            }
            for fault in faults
        ],
        pictures=pictures(timeline, faults) if timeline else [],
        names=NAMES,
        legend=legend,
    )


def share_text(value: object) -> str:
    """Write a share as a percentage with two decimals, never rounded up to 100."""
    if not isinstance(value, int | float):
        return "–"
    cut = int(value * 10_000 + 1e-9) / 100
    return f"{cut:.2f} %"


def seconds_text(value: object) -> str:
    """Write a duration in seconds or, when it is long, in minutes; a dash where there is no figure."""
    if not isinstance(value, int | float):
        return "–"
    return f"{value:.0f} s" if value < LONG_S else f"{value / 60:.0f} min"


FAULT_WORDS = {
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
