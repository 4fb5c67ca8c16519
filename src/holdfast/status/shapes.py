"""The public formats that readers in the field know: Statuspage's API, version 2.

The shapes and every enumeration are theirs, exactly; what we have besides stands under the one key
`holdfast`, which those readers pass over. Updates stand newest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from holdfast.status.board import Board
from holdfast.status.graph import Graph
from holdfast.status.maintenance.conflicts import hit
from holdfast.status.maintenance.plan import Maintenance, Note, State
from holdfast.status.model import (
    IMPACT_OF,
    Component,
    Impact,
    Incident,
    Period,
    Standing,
    Update,
    rank,
    worst,
)
from holdfast.status.notices.genuine import Official
from holdfast.status.trends import Trends

PAGE_ID: Final = "holdfast"
RECENT_MAX: Final = 50
"""Incidents that `incidents.json` lists, newest first, as the original does."""
_DESCRIPTIONS: Final[dict[Impact, str]] = {
    "none": "All Systems Operational",
    "minor": "Minor Service Outage",
    "major": "Partial System Outage",
    "critical": "Major Service Outage",
    "maintenance": "Service Under Maintenance",
}


@dataclass(frozen=True, slots=True)
class View:
    """All that is published at one moment.

    `own`: components that do not stand well by themselves; `standings` has every component of the graph.
    """

    title: str
    url: str
    graph: Graph
    board: Board
    own: Mapping[str, Standing]
    standings: Mapping[str, Standing]
    at: datetime
    official: Official
    since: datetime
    """When the service first ran: components are as old."""
    notices: Mapping[str, list[str]] = field(default_factory=dict)
    """Digests of what was sent, by code, newest first."""
    mail: bool = False
    """Whether letters can be had."""
    zone: str = "UTC"
    trends: Trends | None = None


def files(view: View) -> dict[str, bytes]:
    """Return the JSON files by path."""
    page, status = _page(view), _status(view)
    every = list(view.board.incidents.values())[::-1]
    shown = [incident(view, one) for one in every[:RECENT_MAX]]
    unresolved = [incident(view, one) for one in view.board.open]
    components = _components(view)
    book = view.board.maintenance
    planned = [maintenance(view, one) for one in book.public]
    every_window = [one for one in book.every.values() if one.state != "proposed"]
    newest = sorted(every_window, key=lambda one: one.starts_at, reverse=True)[:RECENT_MAX]
    made: dict[str, dict[str, Any]] = {
        "summary": {
            "page": page,
            "components": components,
            "incidents": unresolved,
            "scheduled_maintenances": planned,
            "status": status,
            "holdfast": _more(view),
        },
        "status": {"page": page, "status": status},
        "components": {"page": page, "components": components},
        "incidents": {"page": page, "incidents": shown},
        "incidents/unresolved": {"page": page, "incidents": unresolved},
        "scheduled-maintenances": _windows(view, newest),
        "scheduled-maintenances/upcoming": _windows(view, [o for o in book.public if not o.running]),
        "scheduled-maintenances/active": _windows(view, book.running),
    }
    return {f"api/v2/{name}.json": msgspec.json.encode(body) for name, body in made.items()}


def moment(at: datetime | None) -> str | None:
    """Write a moment as this format does: UTC, milliseconds."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def overall(view: View) -> Standing:
    """Return how the whole stands: as the worst of what people do, since that is what counts for them."""
    every = view.graph.components.values()
    doing = [one.id for one in every if one.kind == "capability"] or [one.id for one in every]
    return worst(*(view.standings[id_] for id_ in doing))


def _page(view: View) -> dict[str, Any]:
    return {
        "id": PAGE_ID,
        "name": view.title,
        "url": view.url,
        "time_zone": "Etc/UTC",
        "updated_at": moment(view.at),
    }


def _status(view: View) -> dict[str, Any]:
    found = IMPACT_OF[overall(view)]
    return {"indicator": found, "description": _DESCRIPTIONS[found]}


def page_of_hook(view: View) -> dict[str, Any]:
    """Return the page as webhooks name it."""
    status = _status(view)
    return {
        "id": PAGE_ID,
        "status_indicator": status["indicator"],
        "status_description": status["description"],
    }


def _group_id(name: str) -> str:
    return "group-" + "".join(c if c.isalnum() else "-" for c in name.lower())


def _components(view: View) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    groups: dict[str, list[str]] = {}
    for one in view.graph.components.values():
        if one.group:
            groups.setdefault(one.group, []).append(one.id)
        shown.append(component(view, one))
    for name, ids in groups.items():
        standing = max((view.standings[id_] for id_ in ids), key=rank)
        shown.append(
            {
                **_component(view, _group_id(name), name, standing, len(shown) + 1, None, None),
                "group": True,
                "components": ids,
            }
        )
    return shown


def component(view: View, one: Component) -> dict[str, Any]:
    """Return one component."""
    position = view.graph.positions[one.id]
    group = _group_id(one.group) if one.group else None
    standing = view.standings[one.id]
    shape = _component(view, one.id, one.name.en, standing, position, group, one.description.en or None)
    measured, declared = view.board.measured.get(one.id), view.board.said(one.id)
    return shape | {
        "holdfast": {
            "kind": one.kind,
            "name_zh": one.name.say("zh-CN"),
            "measured": None if measured is None else measured.standing,
            "measured_since": None if measured is None else moment(measured.since),
            "declared": declared,
            "fallback": one.fallback if standing != "operational" else None,
        }
    }


def _component(
    view: View, id_: str, name: str, standing: Standing, position: int, group: str | None,
    description: str | None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "id": id_,
        "name": name,
        "status": standing,
        "created_at": moment(view.since),
        "updated_at": moment(_changed(view.board, id_) or view.since),
        "position": position,
        "description": description,
        "showcase": True,
        "start_date": view.since.date().isoformat(),
        "group_id": group,
        "page_id": PAGE_ID,
        "group": False,
        "only_show_if_degraded": False,
    }


def _changed(board: Board, component: str) -> datetime | None:
    signals = [signals.get(component) for signals in (board.measured, board.declared)]
    return max((signal.since for signal in signals if signal is not None), default=None)


def incident(view: View, one: Incident) -> dict[str, Any]:
    """Return one incident with its updates, newest first."""
    touched = [view.graph.components[id_] for id_ in _touched(one.periods) if id_ in view.graph.components]
    updates = [_update(view, one, update) for update in reversed(one.updates)]
    return {
        "id": one.id,
        "name": one.name.en,
        "status": one.stage if one.merged_into is None else "resolved",
        "created_at": moment(one.created_at),
        "updated_at": moment(one.updated_at),
        "monitoring_at": moment(one.monitoring_at),
        "resolved_at": moment(one.resolved_at),
        "impact": one.impact,
        "shortlink": f"{view.url}/incidents/{one.id}.html",
        "started_at": moment(one.started_at),
        "page_id": PAGE_ID,
        "incident_updates": updates,
        "components": [component(view, each) for each in touched],
        "reminder_intervals": None,
        "holdfast": {
            "name_zh": one.name.say("zh-CN"),
            "cause": one.cause,
            "automatic": one.automatic,
            "merged_into": one.merged_into,
            "estimate": _estimate(one),
            "periods": one.periods,
            "numbers": [
                {"component": n.component, "attempts": n.attempts, "failed": n.failed} for n in one.numbers
            ],
        },
    }


def _estimate(one: Incident) -> dict[str, Any] | None:
    """Return by when it should be over, and with what chance."""
    given = one.estimate
    if given is None:
        return None
    times = {"over_by_50": moment(given.half_at), "over_by_80": moment(given.most_at)}
    return times | {"made_at": moment(given.at), "alike": given.alike}


def _windows(view: View, every: list[Maintenance]) -> dict[str, Any]:
    return {"page": _page(view), "scheduled_maintenances": [maintenance(view, one) for one in every]}


def maintenance(view: View, one: Maintenance) -> dict[str, Any]:
    """Return one window with what was told of it, newest first. One that is cancelled reads as completed."""
    touched = [view.graph.components[id_] for id_ in one.components if id_ in view.graph.components]
    return {
        "id": one.id,
        "name": one.name.en or one.name.zh,
        "status": _public(one.state),
        "created_at": moment(one.created_at),
        "updated_at": moment(one.updated_at),
        "monitoring_at": None,
        "resolved_at": moment(one.ended_at),
        "impact": "maintenance",
        "shortlink": f"{view.url}/maintenance/{one.id}.html",
        "started_at": moment(one.started_at or one.starts_at),
        "page_id": PAGE_ID,
        "incident_updates": [_note(one, note) for note in reversed(one.notes) if note.state != "proposed"],
        "components": [component(view, each) for each in touched],
        "reminder_intervals": None,
        "scheduled_for": moment(one.starts_at),
        "scheduled_until": moment(one.ends_at),
        "holdfast": {
            "name_zh": one.name.say("zh-CN"),
            "state": one.state,
            "effects": one.effects,
            "capabilities": hit(one.effects, view.graph),
            "retry": one.retry,
            "overran": one.overran,
            "sequence": one.sequence,
        },
    }


def _public(state: State) -> str:
    return "completed" if state == "cancelled" else state


def _note(one: Maintenance, note: Note) -> dict[str, Any]:
    return {
        "id": note.id,
        "status": _public(note.state),
        "body": note.body.en or note.body.zh,
        "incident_id": one.id,
        "created_at": moment(note.at),
        "updated_at": moment(note.at),
        "display_at": moment(note.at),
        "affected_components": None,
        "deliver_notifications": True,
        "custom_tweet": None,
        "tweet_id": None,
        "holdfast": {"body_zh": note.body.say("zh-CN"), "by": note.by, "moment": note.moment},
    }


def _touched(periods: Iterable[Period]) -> dict[str, None]:
    return dict.fromkeys(period.component for period in periods)


def _update(view: View, one: Incident, update: Update) -> dict[str, Any]:
    affected = [
        {
            "code": id_,
            "name": view.graph.components[id_].name.en if id_ in view.graph.components else id_,
            "old_status": before,
            "new_status": after,
        }
        for id_, before, after in update.changes
    ]
    return {
        "id": update.id,
        "status": update.stage,
        "body": update.body.en or update.body.zh,
        "incident_id": one.id,
        "created_at": moment(update.at),
        "updated_at": moment(update.at),
        "display_at": moment(update.at),
        "affected_components": affected or None,
        "deliver_notifications": True,
        "custom_tweet": None,
        "tweet_id": None,
        "holdfast": {"body_zh": update.body.say("zh-CN"), "by": update.by},
    }


def _more(view: View) -> dict[str, Any]:
    """What we have besides: how what people do stands, and what still works."""
    return {
        "capabilities": [
            {
                "id": one.id,
                "name": one.name,
                "status": view.standings[one.id],
                "because_of": view.graph.roots(view.own, view.standings, one.id),
                "fallback": one.fallback if view.standings[one.id] != "operational" else None,
            }
            for one in view.graph.components.values()
            if one.kind == "capability"
        ]
    }
