"""How a notice is written: a subject, the words, how to check that it is ours, and how to end it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from holdfast.status.graph import Graph
from holdfast.status.maintenance import calendar
from holdfast.status.maintenance.plan import RETRY_WORDS, Maintenance, Moment
from holdfast.status.model import Incident, Update
from holdfast.status.notices.genuine import code_of
from holdfast.status.notices.told import Notice
from holdfast.status.phrases import STAGE_WORDS
from holdfast.status.words import Tag, Words, moment, place

CAREFUL: Final = Words(
    "We never ask for a password, a one-time code, a card number, or a payment to unlock or refund anything.",
    "我们绝不会索要密码、验证码、银行卡号，也不会要求付款来解冻或退款。",
)
MOMENT_WORDS: Final[dict[Moment, Words]] = {
    "planned": Words("Maintenance is planned", "计划维护"),
    "changed": Words("Maintenance was changed", "维护计划有变"),
    "reminder": Words("Maintenance starts soon", "维护即将开始"),
    "started": Words("Maintenance has started", "维护开始"),
    "verifying": Words("Maintenance is being checked", "维护验证中"),
    "overrun": Words("Maintenance lasts longer", "维护超时"),
    "completed": Words("Maintenance is over", "维护结束"),
    "cancelled": Words("Maintenance will not take place", "维护取消"),
}


@dataclass(frozen=True, slots=True)
class Letter:
    """What one subscriber gets. `text` is what the code vouches for."""

    subject: str
    text: str
    code: str


def letter(title: str, url: str, notice: Notice, graph: Graph, tag: Tag) -> Letter:
    """Write a notice in one language."""
    about = notice.about
    name, stage = about.name.say(tag), stage_of(notice).say(tag)
    code = code_of(notice.id)
    if isinstance(about, Incident):
        page, more = f"{url}/{place(tag, f'incidents/{about.id}.html')}", []
    else:
        page, more = calendar.page(url, about, tag), _plan(about, graph, tag)
    lines = (
        f"{title}: {name}",
        f"{stage}, {moment(notice.at)}",
        *(line for line in notice.said.body.say(tag).splitlines() if line.strip()),
        *more,
        CAREFUL.say(tag),
        page,
        (f"Code {code}" if tag == "en" else f"编码 {code}"),
    )
    return Letter(f"{stage}: {name} [{code}]", "\n".join(lines), code)


def stage_of(notice: Notice) -> Words:
    """Return how far it is, in words."""
    said = notice.said
    return STAGE_WORDS[said.stage] if isinstance(said, Update) else MOMENT_WORDS[said.moment]


def _plan(one: Maintenance, graph: Graph, tag: Tag) -> list[str]:
    when = f"{moment(one.starts_at)} – {moment(one.ends_at)}"
    return [when, *calendar.effects(one, graph, tag), RETRY_WORDS[one.retry].say(tag)]
