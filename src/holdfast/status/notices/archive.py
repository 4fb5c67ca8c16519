"""Notices as they were written when they were told: what is sent, and what a reader checks, is this.

Written once and never again, so that a window which moves or an incident which is renamed later does not
make what we sent before look like somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

import msgspec

from holdfast.status import shapes
from holdfast.status.graph import Graph
from holdfast.status.maintenance.conflicts import hit
from holdfast.status.maintenance.plan import Effect
from holdfast.status.model import Cause, Impact, Incident
from holdfast.status.notices import told
from holdfast.status.notices.genuine import digest_of, path_of
from holdfast.status.notices.letters import letter
from holdfast.status.notices.told import Notice
from holdfast.status.seal import Signer
from holdfast.status.shapes import View
from holdfast.status.store import Store
from holdfast.status.words import TAGS

PUBLISHED_MAX: Final = 500
"""Notices that a reader can check on the page, newest first: it has them all, to work without a network."""
SIGNED_FOR: Final = timedelta(days=366)


class Written(msgspec.Struct, frozen=True):
    """One notice in both languages. `components`: all that it touches, what people do among it.

    `hook`: what programs are sent, in Statuspage's envelope.
    """

    id: str
    at: datetime
    code: str
    about: str
    kind: str
    cause: Cause
    impact: Impact
    over: bool
    components: tuple[str, ...]
    subjects: dict[str, str]
    texts: dict[str, str]
    signatures: dict[str, str]
    hook: dict[str, Any]


class Archive:
    """The notices of one service."""

    def __init__(self, store: Store, signer: Signer) -> None:
        self._store = store
        self._signer = signer
        self._ids = set(store.notice_ids())
        self.digests: dict[str, list[str]] = {}
        """By code: the digests of the texts of the newest notices, newest first."""
        for body in store.newest_notices(PUBLISHED_MAX):
            one = msgspec.json.decode(body, type=Written)
            self.digests[one.code] = [digest_of(text) for text in one.texts.values()]

    def take(self, view: View) -> int:
        """Write what was told and is not written yet. Return how many."""
        fresh = sorted(self._missing(view), key=lambda notice: notice.at)
        written = [self._write(view, notice) for notice in fresh]
        if written:
            self._store.add_notices([(one.id, msgspec.json.encode(one)) for one in written])
            self._ids.update(one.id for one in written)
            newest = {one.code: [digest_of(text) for text in one.texts.values()] for one in reversed(written)}
            self.digests = dict(islice({**newest, **self.digests}.items(), PUBLISHED_MAX))
        return len(written)

    def _missing(self, view: View) -> Iterator[Notice]:
        return (notice for notice in told.every(view.board) if notice.id not in self._ids)

    def _write(self, view: View, notice: Notice) -> Written:
        letters = {tag: letter(view.title, view.url, notice, view.graph, tag) for tag in TAGS}
        code = letters["en"].code
        until = notice.at + SIGNED_FOR
        incident = isinstance(notice.about, Incident)
        shown = (
            shapes.incident(view, notice.about)
            if isinstance(notice.about, Incident)
            else shapes.maintenance(view, notice.about)
        )
        return Written(
            notice.id,
            notice.at,
            code,
            notice.about.id,
            "incident" if incident else "maintenance",
            notice.cause,
            notice.impact,
            _over(notice),
            (*notice.components, *touched(notice.components, view.graph)),
            {tag: one.subject for tag, one in letters.items()},
            {tag: one.text for tag, one in letters.items()},
            {
                tag: f"{until:%Y-%m-%dT%H:%M:%SZ} "
                + self._signer.sign(path_of(code), until, digest_of(one.text).encode())
                for tag, one in letters.items()
            },
            {"page": shapes.page_of_hook(view), "incident": shown},
        )


def _over(notice: Notice) -> bool:
    said = notice.said
    return getattr(said, "stage", "") in ("resolved", "postmortem") or getattr(said, "state", "") in (
        "completed",
        "cancelled",
    )


def touched(components: tuple[str, ...], graph: Graph) -> list[str]:
    """Return what people do that some components have to do with, also where another way is left."""
    found = set(hit([Effect(component) for component in components], graph))
    found |= {one for one in graph.above(components) if graph.components[one].kind == "capability"}
    return sorted(found - set(components))
