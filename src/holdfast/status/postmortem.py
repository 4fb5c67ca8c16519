"""The draft of a postmortem: what is known of an incident, with numbers; people add why and what next."""

from __future__ import annotations

from holdfast.status.graph import Graph
from holdfast.status.model import Incident
from holdfast.status.phrases import CAUSE_WORDS, STAGE_WORDS, STANDING_WORDS
from holdfast.status.words import Tag, Words, moment


def draft(one: Incident, graph: Graph) -> Words:
    """Return the draft in both languages. Lines in angle brackets wait for a person."""
    return Words(_in(one, graph, "en"), _in(one, graph, "zh-CN"))


def _in(one: Incident, graph: Graph, tag: Tag) -> str:
    zh = tag == "zh-CN"
    colon = "：" if zh else ": "
    end = one.resolved_at
    span = f"{moment(one.started_at)} – {moment(end) if end else '…'}"
    lasted = (
        f" ({int((end - one.started_at).total_seconds() // 60)} {'分钟' if zh else 'min'})" if end else ""
    )
    lines = [
        f"{'概要' if zh else 'Summary'}{colon}{one.name.say(tag)}",
        f"{'时间' if zh else 'When'}{colon}{span}{lasted}",
        f"{'原因类别' if zh else 'Kind of cause'}{colon}{CAUSE_WORDS[one.cause].say(tag)}",
    ]
    for numbers in one.numbers:
        known = graph.components.get(numbers.component)
        name = known.name.say(tag) if known else numbers.component
        share = f"{numbers.failed / numbers.attempts * 100:.1f} %" if numbers.attempts else "–"
        said = f"{numbers.failed} / {numbers.attempts} ({share})"
        lines.append(f"{name}{colon}{'失败支付' if zh else 'payments failed'} {said}")
    lines.append(f"{'影响' if zh else 'What it touched'}{colon}")
    for period in one.periods:
        known = graph.components.get(period.component)
        name = known.name.say(tag) if known else period.component
        until = moment(period.end_at) if period.end_at else "…"
        lines.append(
            f"- {name}, {STANDING_WORDS[period.standing].say(tag)}, {moment(period.start_at)} – {until}"
        )
    lines.append(f"{'经过' if zh else 'What happened'}{colon}")
    lines += [
        f"- {moment(update.at)} {STAGE_WORDS[update.stage].say(tag)}{colon}{update.body.say(tag)}"
        for update in one.updates
        if update.stage != "postmortem"
    ]
    if one.estimates and end is not None:
        held = sum(end <= given.most_at for given in one.estimates)
        text = Words("Estimates that held (four fifths)", "估计准确度（八成把握）").say(tag)
        lines.append(f"{text}{colon}{held} / {len(one.estimates)}")
    open_ends = Words("Root cause: <why>\nWhat we change: <what>", "根本原因：<请填写>\n改进措施：<请填写>")
    lines.append(open_ends.say(tag))
    return "\n".join(lines)
