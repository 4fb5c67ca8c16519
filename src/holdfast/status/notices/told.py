"""Everything that was told, of incidents and of maintenance, as notices that people can be sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from holdfast.status.board import Board
from holdfast.status.maintenance.plan import Maintenance, Note
from holdfast.status.model import Cause, Impact, Incident, Update


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that was told."""

    about: Incident | Maintenance
    said: Update | Note

    @property
    def id(self) -> str:
        """Id of what was told."""
        return self.said.id

    @property
    def at(self) -> datetime:
        """When it was told."""
        return self.said.at

    @property
    def cause(self) -> Cause:
        """Why things are as they are."""
        return self.about.cause if isinstance(self.about, Incident) else "maintenance"

    @property
    def impact(self) -> Impact:
        """How bad it is: the worst so far of an incident; of what is planned, `maintenance`."""
        if isinstance(self.about, Incident):
            return self.about.impact
        return "major" if getattr(self.said, "moment", "") == "overrun" else "maintenance"

    @property
    def components(self) -> tuple[str, ...]:
        """What it touches by itself."""
        if isinstance(self.about, Incident):
            return tuple(dict.fromkeys(period.component for period in self.about.periods))
        return self.about.components


def every(board: Board) -> Iterator[Notice]:
    """Return all notices, in no order. What is not public is none."""
    for one in board.incidents.values():
        for update in one.updates:
            yield Notice(one, update)
    for window in board.maintenance.every.values():
        for note in window.notes:
            if note.state != "proposed" and window.state != "proposed":
                if (
                    note.state == "cancelled"
                    and len(window.notes) == 2
                    and window.notes[0].state == "proposed"
                ):
                    continue  # nobody was ever told of it
                yield Notice(window, note)
