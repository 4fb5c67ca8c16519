"""How a notice is written: a subject, the words, how to check that it is ours, and how to end it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import Final

from holdfast.status.model import Incident, Update
from holdfast.status.notices.genuine import code_of
from holdfast.status.phrases import STAGE_WORDS
from holdfast.status.words import Tag, Words

CAREFUL: Final = Words(
    "We never ask for a password, a one-time code, a card number, or a payment to unlock or refund anything.",
    "我们绝不会索要密码、验证码、银行卡号，也不会要求付款来解冻或退款。",
)


@dataclass(frozen=True, slots=True)
class Letter:
    """What one subscriber gets. `text` is what the code vouches for."""

    subject: str
    text: str
    code: str


def letter(title: str, url: str, one: Incident, update: Update, tag: Tag) -> Letter:
    """Write the notice of an update in one language."""
    name, stage = one.name.say(tag), STAGE_WORDS[update.stage].say(tag)
    code = code_of(update.id)
    at = update.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = f"{url}/{'zh/' if tag == 'zh-CN' else ''}incidents/{one.id}.html"
    lines = (
        f"{title}: {name}",
        f"{stage}, {at}",
        *(line for line in update.body.say(tag).splitlines() if line.strip()),
        CAREFUL.say(tag),
        page,
        (f"Code {code}" if tag == "en" else f"编码 {code}"),
    )
    return Letter(f"{stage}: {name} [{code}]", "\n".join(lines), code)
