"""A scenario as the sandbox can play it: which provider stands for which rail, and what is broken when.

Pure. Rails that can hold are played by the card providers, in the order in which most payers of the scenario
come to them; rails that charge in one step or confirm later are played by the bank. Where a scenario has more
rails than the sandbox has providers, some share one, by their order.

The kinds of a scenario say what becomes of the requests that are hit ("three in ten are charged although
nobody is told"); the sandbox sets single failures, each drawn for itself. So a fault becomes a few settings
whose shares are such that together they hit as many requests as the scenario says, each in the right part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from holdfast.drills.scenario import Fault, FaultKind, PayerGroup, RailPlan, Scenario
from holdfast.sandbox.faults import LATENCY_MS_MAX, Kind

CARD_PROVIDERS: Final = ("north", "south")
BANK_PROVIDER: Final = "harbour"
PROVIDERS: Final = (*CARD_PROVIDERS, BANK_PROVIDER)

FAULT_S_MIN: Final = 1.0
"""No fault of a live drill is shorter: a few payments shall meet it."""

_AFTERWARDS: Final = ("query", "capture", "cancel", "refund")
"""Operations that come after an acknowledgement."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One failure as the sandbox is asked for it.

    `share`: of the requests; webhook kinds hit every webhook. `latency_ms` None: the kind does not delay.
    `operations` empty: all.
    """

    kind: Kind
    share: float = 1.0
    latency_ms: int | None = None
    operations: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """Return it as the control API reads it, without the instance."""
        found: dict[str, object] = {"fault": self.kind.value, "share": self.share}
        if self.latency_ms is not None:
            found["latency_ms"] = self.latency_ms
        return found | ({"operations": list(self.operations)} if self.operations else {})


@dataclass(frozen=True, slots=True)
class LiveFault:
    """A fault of `rail` in the scenario, as `provider` plays it by `settings`; seconds of the live drill."""

    provider: str
    rail: str
    kind: FaultKind
    share: float
    from_s: float
    to_s: float
    settings: tuple[Setting, ...]

    def document(self) -> dict[str, object]:
        """Return it for the report."""
        return {
            "target": self.provider,
            "rail": self.rail,
            "kind": self.kind.value,
            "share": self.share,
            "from_s": round(self.from_s, 3),
            "to_s": round(self.to_s, 3),
            "sandbox": [setting.document() for setting in self.settings],
        }


def providers(scenario: Scenario) -> dict[str, str]:
    """Return which provider plays each rail, in the order in which most payers come to the rails."""
    groups = sorted(scenario.payers, key=lambda group: -group.share)
    rails = dict.fromkeys(rail.name for group in groups for rail in _serving(scenario, group))
    rails |= dict.fromkeys(rail.name for rail in scenario.rails)
    plans = {rail.name: rail for rail in scenario.rails}
    holding = [name for name in rails if _holds(plans[name])]
    cards = {name: CARD_PROVIDERS[at % len(CARD_PROVIDERS)] for at, name in enumerate(holding)}
    return {name: cards.get(name, BANK_PROVIDER) for name in rails}


def rail_order(scenario: Scenario) -> tuple[str, ...]:
    """Return all providers, those first that most payers of the scenario would come to first."""
    return tuple(dict.fromkeys((*providers(scenario).values(), *PROVIDERS)))


def kinds(scenario: Scenario, group: PayerGroup) -> tuple[Literal["card", "bank"], ...]:
    """Return what a payer of `group` pays with in a live drill; a wallet's balance counts as a card."""
    found: dict[Literal["card", "bank"], None] = dict.fromkeys(
        "card" if _holds(rail) else "bank" for rail in _serving(scenario, group)
    )
    return tuple(found) or ("card",)


def _serving(scenario: Scenario, group: PayerGroup) -> list[RailPlan]:
    return [rail for method in group.methods for rail in scenario.rails if method in rail.methods]


def _holds(rail: RailPlan) -> bool:
    return not rail.one_step and rail.confirms_in is None


def live_faults(scenario: Scenario, *, from_s: float, to_s: float) -> tuple[LiveFault, ...]:
    """Return the scenario's faults, squeezed evenly into the span from `from_s` to `to_s`, in its order.

    None is shorter than `FAULT_S_MIN` seconds.
    """
    if not scenario.faults:
        return ()
    first = min(fault.from_s for fault in scenario.faults)
    pace = (to_s - from_s) / (max(fault.to_s for fault in scenario.faults) - first)
    plans = {rail.name: rail for rail in scenario.rails}
    plays = providers(scenario)
    found = []
    for fault in scenario.faults:
        begin_s = min(from_s + (fault.from_s - first) * pace, to_s - FAULT_S_MIN)
        end_s = max(from_s + (fault.to_s - first) * pace, begin_s + FAULT_S_MIN)
        parts = settings(fault, plans[fault.target], lasts_s=end_s - begin_s)
        found.append(
            LiveFault(plays[fault.target], fault.target, fault.kind, fault.share, begin_s, end_s, parts)
        )
    return tuple(found)


def settings(fault: Fault, rail: RailPlan, *, lasts_s: float) -> tuple[Setting, ...]:
    """Return what the sandbox does that is most like `fault` of `rail`; it is in force for `lasts_s` seconds.

    A restart storm does not abate, and status queries take the place of nothing: the sandbox has neither.
    """
    done, left = fault.carried_out, 1 - fault.carried_out
    until_over = _ms(lasts_s)
    match fault.kind:
        case FaultKind.GRAY:
            lost, late = 1 - fault.late_share, Setting(Kind.SLOW, fault.late_share, _ms(fault.late_s))
            parts = [Setting(Kind.HANG, lost * left), Setting(Kind.MUTE, lost * done), late]
        case FaultKind.HANG:
            parts = [Setting(Kind.HANG, left), Setting(Kind.SLOW, done, _ms(fault.hold_s))]
        case FaultKind.DARK:
            quiet = Setting(Kind.WEBHOOK_DELAY, latency_ms=until_over)
            return (*_apart(fault.share, [Setting(Kind.DARK, left), Setting(Kind.MUTE, done)]), quiet)
        case FaultKind.REFUSE | FaultKind.UNRESOLVABLE:
            parts = [Setting(Kind.REFUSE)]
        case FaultKind.DECLINE_SPIKE:
            parts = [Setting(Kind.DECLINE)]
        case FaultKind.SLOW:
            parts = [Setting(Kind.SLOW, latency_ms=_ms(rail.latency.median_ms * fault.times / 1000))]
        case FaultKind.BROWNOUT:
            parts = [Setting(Kind.ERROR_BEFORE, left), Setting(Kind.ERROR_AFTER, done)]
        case FaultKind.ACK_THEN_SILENT:
            silent = Setting(Kind.HANG, fault.share, operations=_AFTERWARDS)
            return (silent, *_late_reports(fault, until_over))
        case FaultKind.STATUS_QUERY_STORM:
            parts = [Setting(Kind.HANG, left), Setting(Kind.MUTE, done)]
        case FaultKind.RESTART_STORM:
            taken = 1 - fault.refused
            parts = [
                Setting(Kind.REFUSE, fault.refused),
                Setting(Kind.ERROR_BEFORE, taken * left),
                Setting(Kind.ERROR_AFTER, taken * done),
            ]
    return _apart(fault.share, parts)


def _late_reports(fault: Fault, until_over_ms: int) -> tuple[Setting, ...]:
    """Let webhooks come when the fault is over, in no order, twice where the scenario has copies."""
    late = (Setting(Kind.WEBHOOK_DELAY, latency_ms=until_over_ms), Setting(Kind.WEBHOOK_REORDER))
    return (*late, Setting(Kind.WEBHOOK_DUPLICATE)) if fault.copies > 1 else late


def _apart(share: float, parts: list[Setting]) -> tuple[Setting, ...]:
    """Return the parts of a fault that hits `share` of the requests, as settings drawn each for itself.

    The share of a part is of the requests hit; a part that comes earlier outdoes those after it. So each
    later one must hit its share among what the earlier ones leave.
    """
    found, free = [], 1.0
    for part in parts:
        wanted = share * part.share
        if min(wanted, free) > 0:
            drawn = round(min(1.0, wanted / free), 6)
            found.append(Setting(part.kind, drawn, part.latency_ms, part.operations))
            free -= wanted
    return tuple(found)


def _ms(seconds: float) -> int:
    return min(LATENCY_MS_MAX, round(seconds * 1000))
