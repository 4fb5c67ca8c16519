"""The page at `/`: what each provider is doing, and forms to break and mend it.

Works without scripts; Chinese and English.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

import jinja2

from holdfast.sandbox.engine import Engine
from holdfast.sandbox.faults import DESCRIPTIONS, OPERATIONS, FaultInvalid

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
        "currency": "Currency",
        "held": "Held",
        "captured": "Captured",
        "refunded": "Given back",
        "kept": "Kept",
        "empty": "No money has moved yet.",
        "twice": "Charged twice for one reference",
        "requests": "requests:",
        "hit": "hit by a fault:",
        "owed": "webhooks owed:",
        "minor": "in minor units",
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
        "currency": "币种",
        "held": "已冻结",
        "captured": "已扣款",
        "refunded": "已退回",
        "kept": "净收",
        "empty": "尚无资金变动。",
        "twice": "同一参考号被重复扣款",
        "requests": "请求：",
        "hit": "命中故障：",
        "owed": "待发回调：",
        "minor": "单位：最小货币单位",
        "until": "直到修复",
        "left": "秒后结束",
    },
}
_TEMPLATE: Final = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
    files("holdfast.sandbox").joinpath("page.html").read_text()
)


def language(asked: str | None, accepted: str) -> str:
    """Return `zh` or `en`: what was asked for, else the first of the two that the browser names."""
    if asked in _TEXTS:
        return str(asked)
    wanted = [part.strip().lower()[:2] for part in accepted.split(",")]
    return next((one for one in wanted if one in _TEXTS), "en")


def render(state: dict[str, Any], engine: Engine, lang: str) -> str:
    """Return the page as HTML."""
    return _TEMPLATE.render(
        t=_TEXTS[lang],
        lang=lang,
        other="en" if lang == "zh" else "zh",
        state=state,
        books={name: engine.ledger(name) for name in engine.instances},
        descriptions={
            kind.value: texts[lang == "zh"].replace("`", "") for kind, texts in DESCRIPTIONS.items()
        },
        operations=list(OPERATIONS),
    )


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
