"""What can be made to fail, and for which requests. Pure: time is passed in, chance is a hash.

A fault hits a request when `draw(...) < share`. The draw is a hash of the seed, the instance, the number of
the fault and the request's own identity with how often that identity was seen before. The identity is the
idempotency key; else method and path, and the body where the path does not say what it is about. So the same
traffic with the same seed meets the same faults in whatever order the requests arrive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from typing import Final

from holdfast.base.errors import Refused


class FaultInvalid(Refused):
    """That fault cannot be set."""

    code = "fault_invalid"


class Kind(StrEnum):
    """Ways to fail."""

    REFUSE = "refuse"
    DARK = "dark"
    HANG = "hang"
    SLOW = "slow"
    RATE_LIMIT = "rate_limit"
    BAD_KEY = "bad_key"
    ERROR_BEFORE = "error_before"
    ERROR_AFTER = "error_after"
    LOST = "lost"
    MUTE = "mute"
    BROWNOUT = "brownout"
    DECLINE = "decline"
    WRONG_AMOUNT = "wrong_amount"
    WEBHOOK_DUPLICATE = "webhook_duplicate"
    WEBHOOK_REORDER = "webhook_reorder"
    WEBHOOK_DELAY = "webhook_delay"
    WEBHOOK_DROP = "webhook_drop"
    BAD_SIGNATURE = "bad_signature"


DESCRIPTIONS: Final[dict[Kind, tuple[str, str]]] = {
    Kind.REFUSE: (
        "The connection is reset before the request is read; nothing is done. A port of its own closes.",
        "请求未读即重置连接，不执行；独立端口会关闭",
    ),
    Kind.DARK: (
        "The connection is accepted and nothing is ever read, done or answered; webhooks stop too.",
        "接受连接但不读取、不执行、不应答，回调也停止",
    ),
    Kind.HANG: ("The request is read, nothing is done, no answer comes.", "读取请求但不执行，也不应答"),
    Kind.SLOW: ("Everything works, `latency_ms` later.", "一切正常，但延迟 latency_ms 毫秒"),
    Kind.RATE_LIMIT: ("429, nothing is done.", "返回 429，不执行"),
    Kind.BAD_KEY: ("401 as for an expired key, nothing is done.", "返回 401（密钥过期），不执行"),
    Kind.ERROR_BEFORE: ("5xx before anything is done.", "执行之前返回 5xx"),
    Kind.ERROR_AFTER: (
        "5xx although it was done; Stripe's protocol repeats that 5xx for the same key.",
        "已执行却返回 5xx（同一幂等键重复返回该 5xx）",
    ),
    Kind.LOST: (
        "It is done; the connection is closed instead of an answer.",
        "已执行，但应答丢失，连接被关闭",
    ),
    Kind.MUTE: ("It is done; no answer ever comes.", "已执行，但永不应答"),
    Kind.BROWNOUT: (
        "A mixture: of the requests hit, half get `error_before`, the rest `slow`, `lost` or `hang`.",
        "混合故障：命中的请求一半为执行前 5xx，其余为变慢、应答丢失或挂起",
    ),
    Kind.DECLINE: (
        "The payment is declined as by the bank, without a reason.",
        "按银行拒付处理（无具体原因）",
    ),
    Kind.WRONG_AMOUNT: (
        "The provider takes one minor unit less than it was asked, and says so.",
        "服务商少扣一个最小货币单位，并如实返回",
    ),
    Kind.WEBHOOK_DUPLICATE: ("Each webhook is delivered twice.", "每个回调发送两次"),
    Kind.WEBHOOK_REORDER: (
        "Webhooks are delivered up to `latency_ms` later (default 2000), so that they overtake each other.",
        "回调随机延迟，先后顺序被打乱",
    ),
    Kind.WEBHOOK_DELAY: ("Webhooks are delivered `latency_ms` later.", "回调延迟 latency_ms 毫秒"),
    Kind.WEBHOOK_DROP: ("Webhooks are never delivered.", "回调永不送达"),
    Kind.BAD_SIGNATURE: ("Webhooks carry a signature made with another secret.", "回调签名错误"),
}
"""Each kind in English and Chinese; the documentation and the page are checked against this table."""

NAMES: Final[dict[Kind, tuple[str, str]]] = {
    Kind.REFUSE: ("Refuses connections", "拒绝连接"),
    Kind.DARK: ("Dark", "完全失联"),
    Kind.HANG: ("Hangs", "挂起"),
    Kind.SLOW: ("Slow", "变慢"),
    Kind.RATE_LIMIT: ("Rate limited", "限流"),
    Kind.BAD_KEY: ("Expired key", "密钥过期"),
    Kind.ERROR_BEFORE: ("5xx, nothing done", "执行前 5xx"),
    Kind.ERROR_AFTER: ("5xx, yet done", "执行后 5xx"),
    Kind.LOST: ("Answer lost", "应答丢失"),
    Kind.MUTE: ("Mute", "不再应答"),
    Kind.BROWNOUT: ("Brownout", "部分故障"),
    Kind.DECLINE: ("Declines", "拒付"),
    Kind.WRONG_AMOUNT: ("Wrong amount", "金额有误"),
    Kind.WEBHOOK_DUPLICATE: ("Webhooks twice", "回调重复"),
    Kind.WEBHOOK_REORDER: ("Webhooks out of order", "回调乱序"),
    Kind.WEBHOOK_DELAY: ("Webhooks late", "回调延迟"),
    Kind.WEBHOOK_DROP: ("Webhooks lost", "回调丢失"),
    Kind.BAD_SIGNATURE: ("Webhooks with a bad signature", "回调签名错误"),
}
"""What people call each kind, in English and Chinese."""

WEBHOOK_KINDS: Final = frozenset(
    (Kind.WEBHOOK_DUPLICATE, Kind.WEBHOOK_REORDER, Kind.WEBHOOK_DELAY, Kind.WEBHOOK_DROP, Kind.BAD_SIGNATURE)
)

OPERATIONS: Final[dict[str, tuple[str, ...]]] = {
    "authorize": ("create", "confirm", "initiate"),
    "capture": ("capture",),
    "cancel": ("cancel",),
    "refund": ("refund", "return"),
    "query": ("retrieve", "list", "search", "query"),
    "settlement": ("settlement",),
}
"""General names of operations, and the providers' own that they stand for. A fault may name either."""

OWN_OPERATIONS: Final = frozenset(own for owns in OPERATIONS.values() for own in owns) | {"other"}

BROWNOUT_MIX: Final = ((0.5, Kind.ERROR_BEFORE), (0.7, Kind.SLOW), (0.85, Kind.LOST), (1.0, Kind.HANG))
LATENCY_MS_DEFAULT: Final = 2000
LATENCY_MS_MAX: Final = 600_000
DURATION_S_MAX: Final = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that somebody has set.

    `operations` empty: all of them. `until_ms` None: until it is taken away.
    """

    id: str
    number: int
    instance: str
    kind: Kind
    share: float = 1.0
    latency_ms: int = LATENCY_MS_DEFAULT
    status: int = 500
    operations: frozenset[str] = frozenset()
    from_ms: int = 0
    until_ms: int | None = None
    note: str = ""

    def concerns(self, instance: str, operation: str, now_ms: int) -> bool:
        """Tell whether it is in force for `operation` on `instance` at `now_ms` (Unix milliseconds)."""
        if self.instance not in ("*", instance) or now_ms < self.from_ms:
            return False
        if self.until_ms is not None and now_ms >= self.until_ms:
            return False
        return not self.operations or operation in self.operations


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to one request, in the order in which it happens."""

    refuse: bool = False
    dark: bool = False
    delay_ms: int = 0
    hang: bool = False
    rate_limit: bool = False
    bad_key: bool = False
    error_before: int = 0
    decline: bool = False
    wrong_amount: bool = False
    error_after: int = 0
    lost: bool = False
    mute: bool = False

    def with_fault(self, kind: Kind, *, latency_ms: int, status: int) -> Verdict:
        """Add one fault."""
        match kind:
            case Kind.SLOW:
                return replace(self, delay_ms=max(self.delay_ms, latency_ms))
            case Kind.ERROR_BEFORE:
                return replace(self, error_before=status)
            case Kind.ERROR_AFTER:
                return replace(self, error_after=status)
            case _ if kind in WEBHOOK_KINDS:
                return self
            case _:
                return replace(self, **{kind.value: True})


def draw(*parts: object) -> float:
    """Return a number in [0, 1) that depends on `parts` alone."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def judge(
    faults: Iterable[Fault], *, seed: int, instance: str, operation: str, identity: str, nth: int, now_ms: int
) -> Verdict:
    """Decide what happens to a request.

    `identity` and `nth`: what it is, and how often that was seen before.
    """
    verdict = Verdict()
    for fault in faults:
        if fault.kind in WEBHOOK_KINDS or not fault.concerns(instance, operation, now_ms):
            continue
        if draw(seed, instance, fault.number, identity, nth) >= fault.share:
            continue
        kind = fault.kind
        if kind is Kind.BROWNOUT:
            mixed = draw("mix", seed, instance, fault.number, identity, nth)
            kind = next(one for below, one in BROWNOUT_MIX if mixed < below)
        status = 503 if fault.kind is Kind.BROWNOUT else fault.status
        verdict = verdict.with_fault(kind, latency_ms=fault.latency_ms, status=status)
    return verdict


@dataclass(frozen=True, slots=True)
class Mischief:
    """What happens to one webhook."""

    copies: int = 1
    delay_ms: int = 0
    bad_signature: bool = False


def judge_webhook(
    faults: Sequence[Fault], *, seed: int, instance: str, event_id: str, now_ms: int
) -> Mischief:
    """Decide what happens to a webhook."""
    mischief = Mischief()
    for fault in faults:
        if fault.kind not in WEBHOOK_KINDS and fault.kind is not Kind.DARK:
            continue
        if not fault.concerns(instance, "webhook", now_ms) and not (
            fault.kind in WEBHOOK_KINDS
            and replace(fault, operations=frozenset()).concerns(instance, "", now_ms)
        ):
            continue
        drawn = draw(seed, instance, fault.number, event_id)
        if drawn >= fault.share:
            continue
        match fault.kind:
            case Kind.WEBHOOK_DUPLICATE:
                mischief = replace(mischief, copies=mischief.copies * 2)
            case Kind.WEBHOOK_REORDER:
                late = round(draw("order", seed, instance, fault.number, event_id) * fault.latency_ms)
                mischief = replace(mischief, delay_ms=mischief.delay_ms + late)
            case Kind.WEBHOOK_DELAY:
                mischief = replace(mischief, delay_ms=mischief.delay_ms + fault.latency_ms)
            case Kind.WEBHOOK_DROP:
                mischief = replace(mischief, copies=0)
            case Kind.BAD_SIGNATURE:
                mischief = replace(mischief, bad_signature=True)
    return mischief
