"""From what is measured to what is said: decisions of the watches become facts of the board.

One incident stands for one place of trouble. It opens by itself and is public at once, in words made from a
template; when it is over by what is measured and nobody has written to it, it ends by itself, else it is said
that it seems mended and a person ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from holdfast.status.board import Board, Fact, Measured, Opened, Told
from holdfast.status.detect.nodes import Node, covers, names
from holdfast.status.detect.probing import Probing
from holdfast.status.detect.watch import Decision, Found, Moved, Over, Watch
from holdfast.status.graph import Graph
from holdfast.status.model import Evidence, Incident, Standing
from holdfast.status.outcomes import Count, Probed
from holdfast.status.words import Words

MEASURED: Final = "measured"
"""Who says what the measurements say."""
_TOTAL: Final = 0.9
_PARTIAL: Final = 0.25
_LEVEL_S: Final = 10.0
"""How often the measured standing of a component in trouble is looked at again."""


class Detector:
    """The watches, and the incidents that they opened."""

    def __init__(self, graph: Graph, watch: Watch, probing: Probing) -> None:
        self._graph = graph
        self._watch = watch
        self._probing = probing
        self._incidents: dict[str, str] = {}
        """By node (or component, for probes): the incident that was opened for it."""
        self._levelled_s = 0.0
        self._unsaid: dict[str, float] = {}
        """Components that probes find out while they are maintained, since when."""
        self.unmeasured = False

    @classmethod
    def kept(cls, dump: bytes | None, graph: Graph, now: datetime) -> Detector:
        """Return the detector as it was kept, or a fresh one."""
        if dump is None:
            return cls(graph, Watch(), Probing())
        kept = msgspec.json.decode(dump)
        made = cls(graph, Watch.load(kept["watch"], now.timestamp()), Probing.load(kept["probing"]))
        made._incidents = kept["incidents"]
        return made

    def dump(self) -> dict[str, Any]:
        """Return what a restart needs."""
        return {
            "watch": self._watch.dump(),
            "probing": self._probing.dump(),
            "incidents": self._incidents,
        }

    def heard(self, at: datetime) -> None:
        """Note that the wallet reported."""
        self._probing.heard(at.timestamp())

    def tick(
        self,
        now: datetime,
        counts: Iterable[Count],
        probes: Iterable[Probed],
        board: Board,
        new_id: Callable[[str], str],
    ) -> list[Fact]:
        """Take what is new, and return what is to be said. Of what is maintained, nothing is."""
        now_s = now.timestamp()
        facts: list[Fact] = []
        planned = board.maintenance.standings()
        found, self._unsaid = {**self._unsaid, **self._probing.tick(now_s, probes)}, {}
        for target, since_s in found.items():
            if since_s is not None and target in planned:
                self._unsaid[target] = since_s
            else:
                facts += self._probe(target, since_s, board, new_id)
        known = (self._graph.components.get(id_) for id_ in planned)
        nodes = [_node(one.facts) for one in known if one is not None and one.facts]
        for decision in self._watch.tick(now_s, counts, live=self._probing.live(now_s), planned=nodes):
            facts += self._said(decision, board, new_id)
        unmeasured = self._probing.unmeasured(now_s)
        if unmeasured != self.unmeasured:
            self.unmeasured = unmeasured
            facts += [Measured(id_, None) for id_ in board.measured] if unmeasured else []
        if not unmeasured and now_s - self._levelled_s >= _LEVEL_S:
            self._levelled_s = now_s
            facts += self._levels(now_s, board)
        return facts

    def _said(self, decision: Decision, board: Board, new_id: Callable[[str], str]) -> list[Fact]:
        if isinstance(decision, Over):
            return self._over("|".join(decision.node), self._components(decision.node), board, new_id)
        if isinstance(decision, Moved):
            return self._moved(decision, board, new_id)
        return self._found(decision, new_id)

    def _found(self, found: Found, new_id: Callable[[str], str]) -> list[Fact]:
        components = self._components(found.node)
        if not components:
            return []
        standing = _standing(found.share)
        key, id_ = "|".join(found.node), new_id("inc")
        self._incidents[key] = id_
        evidence = Evidence(names(found.node), found.share, found.attempts, found.rule)
        opened = Opened(
            id_, new_id("upd"), self._name(components, standing), _body(found.rule), "unknown",
            "investigating", dict.fromkeys(components, standing), _moment(found.since_s), evidence,
        )  # fmt: skip
        return [opened, *(Measured(c, standing, found.share) for c in components)]

    def _moved(self, moved: Moved, board: Board, new_id: Callable[[str], str]) -> list[Fact]:
        id_ = self._incidents.pop("|".join(moved.before), None)
        one = board.incidents.get(id_ or "")
        if id_ is None or one is None or not one.open:
            return self._found(moved.after, new_id)
        self._incidents["|".join(moved.after.node)] = id_
        components, standing = self._components(moved.after.node), _standing(moved.after.share)
        renamed = self._name(components, standing) if _untouched(one) else None
        told = Told(id_, new_id("upd"), one.stage, _WIDER, dict.fromkeys(components, standing), renamed)
        return [told, *(Measured(c, standing, moved.after.share) for c in components)]

    def _over(
        self, key: str, components: list[str], board: Board, new_id: Callable[[str], str]
    ) -> list[Fact]:
        facts: list[Fact] = [Measured(c, "operational", 0.0) for c in components]
        one = board.incidents.get(self._incidents.pop(key, ""))
        if one is None or not one.open:
            return facts
        if _untouched(one):
            return [*facts, Told(one.id, new_id("upd"), "resolved", _MENDED)]
        return [*facts, Told(one.id, new_id("upd"), "monitoring", _SEEMS_MENDED)]

    def _probe(
        self, target: str, since_s: float | None, board: Board, new_id: Callable[[str], str]
    ) -> list[Fact]:
        key = f"probe|{target}"
        if since_s is None:
            return self._over(key, [target], board, new_id)
        if any(one.standing_of(target) == "major_outage" for one in board.open):
            return [Measured(target, "major_outage", 1.0)]
        id_ = new_id("inc")
        self._incidents[key] = id_
        opened = Opened(
            id_, new_id("upd"), self._name([target], "major_outage"), _body("probe"), "unknown",
            "investigating", {target: "major_outage"}, _moment(since_s),
            Evidence({"probe": target}, 1.0, 0, "probe"),
        )  # fmt: skip
        return [opened, Measured(target, "major_outage", 1.0)]

    def _components(self, node: Node) -> list[str]:
        """Return the components that a node belongs to: the one that names most of it, else all below it."""
        named = names(node)
        found = self._graph.match(named)
        if found is not None:
            return [found]
        return [
            one.id
            for one in self._graph.components.values()
            if one.facts and all(one.facts.get(key, value) == value for key, value in named.items())
            and any(key in one.facts for key in named)
        ]  # fmt: skip

    def _levels(self, now_s: float, board: Board) -> list[Fact]:
        """Say how components stand by their numbers, where that differs from what was said of them last."""
        facts: list[Fact] = []
        for component in self._graph.components.values():
            if not component.facts or self._probing.out(component.id):
                continue
            if board.maintenance.under_way(component.id):
                continue
            node = _node(component.facts)
            attempts, failed = self._watch.share(node, now_s)
            if not attempts:
                continue
            open_here = any(covers(one, node) or covers(node, one) for one in self._watch.open)
            standing = _standing(failed / attempts) if open_here else "operational"
            said = board.measured.get(component.id)
            if said is None or said.standing != standing:
                facts.append(Measured(component.id, standing, failed / attempts))
        return facts

    def _name(self, components: list[str], standing: Standing) -> Words:
        every = [self._graph.components[id_].name for id_ in components[:3]]
        more = "" if len(components) <= 3 else " …"
        what = _NAMES[standing]
        return Words(
            what.en % (", ".join(name.en for name in every) + more),
            what.zh % ("、".join(name.say("zh-CN") for name in every) + more),
        )


_NAMES: Final[dict[Standing, Words]] = {
    "major_outage": Words("%s does not work", "%s：无法使用"),
    "partial_outage": Words("%s often fails", "%s：经常失败"),
    "degraded_performance": Words("%s fails more than usual", "%s：失败率高于平常"),
}
_WIDER: Final = Words("More is affected than was measured at first.", "测得影响范围比最初更大。")
_MENDED: Final = Words(
    "By what is measured it works again, for two minutes without trouble.",
    "测量显示已恢复，连续两分钟无异常。",
)
_SEEMS_MENDED: Final = Words(
    "By what is measured it works again. Our team looks after it and will say when it is over.",
    "测量显示已恢复。工作人员仍在观察，结束时会另行通知。",
)
_BODIES: Final = {
    "probe": Words(
        "It does not answer when tried from outside. This was measured, and opened by itself.",
        "从外部访问无应答。本事件由系统测得并自动开启。",
    ),
    "silence": Words(
        "Far fewer payments arrive than is normal at this hour. This was measured, and opened by itself.",
        "支付量远低于此时段的正常水平。本事件由系统测得并自动开启。",
    ),
    "share": Words(
        "More payments fail than is normal. This was measured, and opened by itself; our team has been told.",
        "支付失败率高于正常水平。本事件由系统测得并自动开启，工作人员已收到通知。",
    ),
}


def _body(rule: str) -> Words:
    return _BODIES.get(rule, _BODIES["share"])


def _standing(share: float) -> Standing:
    if share >= _TOTAL:
        return "major_outage"
    return "partial_outage" if share >= _PARTIAL else "degraded_performance"


def _untouched(one: Incident) -> bool:
    """Tell whether nobody but the measurements has spoken of an incident."""
    return all(update.by == MEASURED for update in one.updates)


def _moment(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def _node(facts: Mapping[str, str]) -> Node:
    capability, rail, bank, country = (
        facts.get(name, "*") for name in ("capability", "rail", "bank", "country")
    )
    return (capability, rail, bank, country)
