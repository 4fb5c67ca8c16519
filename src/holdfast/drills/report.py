"""Writes a drill's report.

JSON with stable keys, and one self-contained page with pictures, in two languages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import jinja2

from holdfast.base.errors import Refused
from holdfast.base.money import Money, asset
from holdfast.drills.judge import TRIES_MIN
from holdfast.drills.pictures import NAMES, Words, fault_words, legend, pictures, rail_words

Figures = Mapping[str, object]
LONG_S: Final = 300
"""From here a duration is written in minutes."""


def to_json(figures: Figures) -> str:
    """Return the report as JSON; the same figures give the same text."""
    return json.dumps(figures, ensure_ascii=False, indent=1) + "\n"


def write_json(figures: Figures, file: Path) -> None:
    """Write the JSON report to `file`, with the folder that holds it. Raises: `Refused`."""
    with _writing(file):
        file.write_text(to_json(figures), encoding="utf-8")


def write_html(figures: Figures, folder: Path) -> Path:
    """Write the page (`NAME.html`) and the JSON (`NAME.json`) into `folder`; return the page's path.

    Raises: `Refused`.
    """
    page, data = files_in(folder, str(figures["scenario"]))
    write_json(figures, data)
    with _writing(page):
        page.write_text(to_html(figures), encoding="utf-8")
    return page


def files_in(folder: Path, scenario: str) -> tuple[Path, Path]:
    """Return the page and the JSON that a report of `scenario` puts into `folder`."""
    return folder / f"{scenario}.html", folder / f"{scenario}.json"


def refuse_unwritable(file: Path) -> None:
    """Make the folder of `file` and open it for writing, changing nothing in it. Raises: `Refused`."""
    with _writing(file):
        if file.exists() and not file.is_file() and not file.is_dir():
            return  # a pipe or a device: to open and close it would end it for its reader
        new = not file.exists()
        file.open("ab").close()
        if new:
            file.unlink()


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    failing = f"The folder {file.parent} cannot be made"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        failing = f"{file} cannot be written"
        yield
    except OSError as error:
        raise Refused(
            f"{failing}: {error.strerror or error}. Choose another place with --json FILE or --report DIR."
        ) from error


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
    about = cast("Figures", figures["about"])
    timeline = cast("Figures", figures.get("timeline") or {})
    faults = cast("Sequence[Figures]", about["faults"])
    return environment.get_template("report.html.j2").render(
        figures=figures,
        about=about,
        faults=[
            {**fault, "where": rail_words(str(fault["target"])), "words": fault_words(fault["kind"])}
            for fault in faults
        ],
        live=figures["mode"] == "live",
        done=done_live(figures),
        moments=moments(figures),
        money_lost=money_lost_text(figures),
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


def money_lost_text(figures: Figures) -> str:
    """Write the money lost with its asset's decimals: `0.00 EUR`."""
    return str(Money(asset(str(figures["asset"])), cast("int", figures["money_lost_minor"])))


def duration_words(value: float) -> Words:
    """Write a duration in seconds or, when it is long, in minutes."""
    if value == 0:
        return Words("at once", "立即")
    if value < 1:
        return Words("under 1 s", "不到 1 秒")
    if value < LONG_S:
        return Words(f"{value:.0f} s", f"{value:.0f} 秒")
    return Words(f"{value / 60:.0f} min", f"{value / 60:.0f} 分钟")


@dataclass(frozen=True, slots=True)
class Moment:
    """When something had happened: its name, how long it took, from what on, and what is meant."""

    name: Words
    value: Words
    since: Words
    about: Words


FIRST_FAULT: Final = Words("from the start of the first fault", "自首个故障开始")
LAST_FAULT: Final = Words("from the end of the last fault", "自最后一个故障结束")
KILL: Final = Words("from the kill -9 of the server", "自服务器被强杀（kill -9）")
NEVER: Final = Words("never", "始终没有")
NOT_NEEDED: Final = Words("not needed", "无需")
TOO_FEW: Final = Words("too few to tell", "付款太少，看不出")


def moments(figures: Figures) -> tuple[Moment, ...]:
    """Return what was measured of when, in the order: detected, moved, recovered, settled.

    A live drill measures neither of the first two; where nothing failed, there is nothing to measure.
    """
    settled = Moment(
        Words("settled", "清完"),
        _took(figures["backlog_s"]),
        LAST_FAULT,
        Words("nothing is under way any more", "再没有未了的付款"),
    )
    recovered, name = figures["recover_s"], Words("recovered", "恢复")
    if figures["mode"] == "live":
        paid = Words("the next payment succeeds", "下一笔付款成功")
        return Moment(name, _took(recovered), KILL, paid), settled
    if not cast("Figures", figures["about"])["faults"]:
        return ()
    return (
        Moment(
            Words("detected", "发现"),
            _took(figures["detect_s"]),
            FIRST_FAULT,
            Words("it is past doubt that something is wrong", "确凿无疑出了故障"),
        ),
        Moment(
            Words("moved", "改道"),
            _moved(figures),
            FIRST_FAULT,
            Words("new payments go elsewhere; that waits for no alarm", "新付款改走别处，不必等到报警"),
        ),
        Moment(
            name,
            NOT_NEEDED if recovered == 0 else _took(recovered),
            FIRST_FAULT,
            Words("payments complete as usual", "付款如常完成"),
        ),
        settled,
    )


def _took(value: object) -> Words:
    return duration_words(value) if isinstance(value, int | float) else NEVER


def _moved(figures: Figures) -> Words:
    """Say why there is no figure: it could not be told, nobody had to move, or nobody moved."""
    if figures["moved_s"] is not None:
        return _took(figures["moved_s"])
    timeline = cast("Figures", figures.get("timeline") or {})
    tries = cast("Mapping[str, Sequence[int]]", timeline.get("first_tries") or {})
    steps = [sum(step) for step in zip(*tries.values(), strict=True)]
    if sum(steps) < TRIES_MIN * len(steps):
        return TOO_FEW
    return NOT_NEEDED if figures["recover_s"] == 0 else NEVER


def done_live(figures: Figures) -> Words:
    """Say what a live drill really did, from its figures."""
    faults = cast("Sequence[Figures]", cast("Figures", figures["about"])["faults"])
    failing: dict[tuple[object, object], list[Figures]] = {}
    for fault in faults:
        if fault["kind"] != "kill_server":
            failing.setdefault((fault["target"], fault.get("rail", "")), []).append(fault)
    en, zh = [], []
    for (target, rail), ones in failing.items():
        span = f"{min(_s(one, 'from_s') for one in ones):g}–{max(_s(one, 'to_s') for one in ones):g}"
        what = [fault_words(kind) for kind in dict.fromkeys(one["kind"] for one in ones)]
        en.append(f"{target} in the part of {rail}, seconds {span}: {'; '.join(one.en for one in what)}")
        part = rail_words(str(rail)).zh
        zh.append(f"{target} 扮演 {part}，第 {span} 秒：{'；'.join(one.zh for one in what)}")
    for one in faults:
        if one["kind"] == "kill_server":
            en.append(f"second {_s(one, 'from_s'):g}: the server killed with kill -9")
            zh.append(f"第 {_s(one, 'from_s'):g} 秒：用 kill -9 强杀服务器")
    return Words(
        f"A whole platform ran on this machine, and {figures['attempted']:,} payments were asked for over "
        f"its HTTP API. {'. '.join(one[0].upper() + one[1:] for one in en)}. "
        "The scenario lent its kinds and shares of faults; its own traffic and duration were not played.",
        f"在本机运行了整套平台，经其 HTTP 接口发起 {figures['attempted']:,} 笔付款。{'。'.join(zh)}。"
        "故障的种类与比例取自场景；场景本身的流量与时长没有重演。",
    )


def _s(fault: Figures, key: str) -> float:
    return cast("float", fault[key])
