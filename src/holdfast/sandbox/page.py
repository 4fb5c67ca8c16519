"""The page at `/`: what each provider is doing, and forms to break and mend it.

Works without scripts; Chinese and English.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit

import jinja2

from holdfast.base.errors import Refused
from holdfast.base.money import Money, asset, decimal_text
from holdfast.sandbox.engine import Engine
from holdfast.sandbox.faults import DESCRIPTIONS, LATENCY_MS_DEFAULT, NAMES, OPERATIONS, FaultInvalid, Kind
from holdfast.sandbox.magic import OUTAGES

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
_TEXTS: Final[dict[str, dict[str, str]]] = {
    "en": {
        "title": "Sandbox providers",
        "intro": "They speak real protocols and keep their own books. Break one and watch what pays on.",
        "other": "中文",
        "break": "Break it",
        "mend": "Mend",
        "mend_all": "Mend everything",
        "fault": "What fails",
        "share": "Share of requests, percent",
        "latency": "Latency, milliseconds",
        "seconds": "For how many seconds (empty: until mended)",
        "operation": "Operation",
        "every": "all",
        "healthy": "Healthy: no fault is set.",
        "book": "Its own book",
        "held": "Held",
        "captured": "Captured",
        "refunded": "Given back",
        "kept": "Kept",
        "empty": "No money has moved yet.",
        "twice": "Charged twice for one reference",
        "requests": "requests:",
        "hit": "hit by a fault:",
        "owed": "webhooks owed:",
        "minor": "minor units",
        "shop": "To the shop",
        "magic": "Cards and amounts that fail by themselves",
        "magic_intro": "Each breaks only the payment that uses it: other payments, their webhooks and the "
        "provider's port go on as before. Most hit the first request; its repetition finds out what became "
        "of it. Cards are for card providers, amounts work at the bank too.",
        "repeats": "Repetitions meet it again.",
        "of_requests": "of the requests",
        "card": "Card",
        "amount": "Amount",
        "that_latency": " the set latency",
        "ms": "ms",
        "until": "until mended",
        "left": "s left",
    },
    "zh": {
        "title": "沙盒支付服务商",
        "intro": "它们使用真实协议并各自记账。弄坏一个，看看哪些付款仍能继续。",
        "other": "English",
        "break": "制造故障",
        "mend": "修复",
        "mend_all": "全部修复",
        "fault": "故障类型",
        "share": "命中请求比例（百分比）",
        "latency": "延迟（毫秒）",
        "seconds": "持续秒数（留空则直到修复）",
        "operation": "操作",
        "every": "全部",
        "healthy": "正常：未设置故障。",
        "book": "服务商自己的账本",
        "held": "已冻结",
        "captured": "已扣款",
        "refunded": "已退回",
        "kept": "净收",
        "empty": "尚无资金变动。",
        "twice": "同一参考号被重复扣款",
        "requests": "请求：",
        "hit": "命中故障：",
        "owed": "待发回调：",
        "minor": "最小货币单位",
        "shop": "前往商店",
        "magic": "自带故障的卡号与金额",
        "magic_intro": "每个只影响使用它的那一笔付款，其他付款、其他回调和服务商端口照常。"
        "多数只命中首次请求，重试可查明首次请求的结果。卡号仅用于银行卡通道，金额也可用于银行转账。",
        "repeats": "重试时会再次命中。",
        "of_requests": "的请求",
        "card": "卡号",
        "amount": "金额",
        "that_latency": "所设的时间",
        "ms": "毫秒",
        "until": "直到修复",
        "left": "秒后结束",
    },
}
_INSTANCES: Final[dict[str, tuple[str, str]]] = {
    "north": ("North", "北方通道"),
    "south": ("South", "南方通道"),
    "harbour": ("Harbour", "港湾银行"),
}
"""What the shop calls the providers, in English and Chinese; any other is called by its own name."""

_PROTOCOLS: Final[dict[str, tuple[str, str]]] = {
    "stripe": ("card provider", "银行卡通道"),
    "harbour": ("bank transfer", "银行转账"),
}
_OPERATIONS: Final[dict[str, tuple[str, str]]] = {
    "authorize": ("Authorize", "授权"),
    "capture": ("Capture", "扣款"),
    "cancel": ("Cancel", "撤销"),
    "refund": ("Refund", "退款"),
    "query": ("Query", "查询"),
    "settlement": ("Settlement file", "对账文件"),
}
_OF_ONE_PAYMENT: Final[dict[Kind, tuple[str, str]]] = {
    Kind.REFUSE: ("The connection is reset; nothing is done.", "重置连接，不执行"),
    Kind.DARK: ("Nothing is done, and no answer ever comes.", "不执行，也永不应答"),
    Kind.WEBHOOK_REORDER: (
        "Webhooks are delivered up to `latency_ms` later, so that they overtake each other.",
        "回调最多延迟 latency_ms 毫秒，先后顺序被打乱",
    ),
}
"""What a card or an amount does where that is less than the fault does to a whole provider."""

_TEMPLATE: Final = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
    files("holdfast.sandbox").joinpath("page.html").read_text()
)


def language(asked: str | None, accepted: str) -> str:
    """Return `zh` or `en`: what was asked for, else the first of the two that the browser names."""
    if asked in _TEXTS:
        return str(asked)
    wanted = [part.strip().lower()[:2] for part in accepted.split(",")]
    return next((one for one in wanted if one in _TEXTS), "en")


@dataclass(frozen=True, slots=True)
class _Explained:
    """A kind of failure as the page shows it."""

    name: str
    text: str


def render(state: dict[str, Any], engine: Engine, lang: str) -> str:
    """Return the page as HTML."""
    texts, at = _TEXTS[lang], int(lang == "zh")
    single, wait = DESCRIPTIONS | _OF_ONE_PAYMENT, f" {LATENCY_MS_DEFAULT} {texts['ms']}"
    return _TEMPLATE.render(
        t=texts,
        lang=lang,
        other="en" if lang == "zh" else "zh",
        state=state,
        shop=_shop(engine.hooks),
        names={name: _INSTANCES[name][at] if name in _INSTANCES else name for name in engine.instances},
        protocols={protocol: said[at] for protocol, said in _PROTOCOLS.items()},
        books={name: engine.ledger(name) for name in engine.instances},
        money=lambda minor, currency: _money(minor, currency, texts["minor"]),
        kinds={kind.value: _explained(kind, DESCRIPTIONS, at, texts["that_latency"]) for kind in Kind},
        operations={name: said[at] for name, said in _OPERATIONS.items()},
        named=lambda owns: _named(owns, at),
        outages=[(one, _explained(one.kind, single, at, wait)) for one in OUTAGES],
    )


def _explained(kind: Kind, descriptions: Mapping[Kind, tuple[str, str]], at: int, latency: str) -> _Explained:
    """Say what a kind does in the words of the page: its own names for other kinds, and what `latency` is."""
    text = re.sub(r" `?latency_ms`?( 毫秒)?", latency, descriptions[kind][at])
    text = re.sub(r"`(\w+)`", lambda found: f"“{NAMES[Kind(found[1])][at]}”", text)
    return _Explained(NAMES[kind][at], text)


def _money(minor: int, currency: str, unknown: str) -> str:
    """Write an amount as a decimal; what this wallet has no scale for stays in minor units, and says so."""
    try:
        return decimal_text(Money(asset(currency), minor))
    except Refused:
        return f"{minor} ({unknown})"


def _named(owns: Iterable[str], at: int) -> str:
    """Name operations as the form does, and those that make up none of its choices by their own names."""
    left, said = set(owns), []
    for name, theirs in OPERATIONS.items():
        if left.issuperset(theirs):
            left.difference_update(theirs)
            said.append(_OPERATIONS[name][at])
    return ", ".join([*said, *sorted(left)])


def _shop(hooks: Mapping[str, Sequence[str]]) -> str | None:
    """Return the address of the wallet whose webhooks go to where Holdfast takes them, if there is one."""
    for instance, urls in hooks.items():
        for url in urls:
            parts = urlsplit(url)
            if parts.path == f"/v1/rails/{instance}/webhook":
                return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"
    return None


def obey(engine: Engine, form: dict[str, str]) -> None:
    """Do what a form asks for. Raises: `FaultInvalid`, `InstanceUnknown`."""
    match form.get("do"):
        case "break":
            asked: dict[str, Any] = {"instance": form.get("instance", ""), "fault": form.get("fault", "")}
            asked["share"] = _number(form, "share", 100) / 100
            asked["latency_ms"] = _number(form, "latency_ms", 2000)
            if form.get("seconds"):
                asked["seconds"] = _number(form, "seconds", 0)
            if form.get("operation"):
                asked["operations"] = [form["operation"]]
            engine.set_fault(asked)
        case "mend":
            engine.mend(form.get("id", ""))
        case "mend_all":
            engine.mend_instance("*")
        case _:
            raise FaultInvalid("The form asks for nothing that this page can do.")


def _number(form: dict[str, str], name: str, default: float) -> float:
    text = form.get(name, "")
    if not text:
        return default
    try:
        return float(text)
    except ValueError:
        raise FaultInvalid(f"{name} must be a number.") from None
