"""What payments ask of whoever ranks rails, and the simplest answer: a fixed order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from holdfast.domains.payments.rules.routing import Offer, RailOutcome, Ranking, Ticket, View


class Router(Protocol):
    """Ranks ways to pay, and caps the calls to each rail. Time is seconds that never go back."""

    def rank(self, offers: Sequence[Offer], *, now_s: float) -> Ranking:
        """Order the offers, best first."""
        ...

    def started(self, rail: str, *, now_s: float, last_resort: bool = False) -> Ticket | None:
        """Ask to call `rail`; None: go elsewhere for now. `last_resort` says that there is no elsewhere."""
        ...

    def hindrance(self, rail: str, *, now_s: float) -> str:
        """Say why `rail` takes no call just now, in words; empty when it does."""
        ...

    def finished(self, ticket: Ticket, outcome: RailOutcome, *, latency_s: float, now_s: float) -> None:
        """Count how the call went."""
        ...

    def corrected(self, ticket: Ticket, outcome: RailOutcome, *, now_s: float) -> None:
        """Say what an unknown outcome turned out to be."""
        ...

    def avoid(self, rails: Iterable[str]) -> None:
        """Begin nothing new on rails under maintenance, now or soon, while another rail is left."""
        ...

    def abandoned(self, ticket: Ticket) -> None:
        """Give back a call that was never made; it says nothing about the rail."""
        ...


class FixedOrder:
    """Ranks by the payer's own order, then as offered; learns nothing and never refuses a call.

    A baseline.
    """

    def __init__(self) -> None:
        self._tickets = 0

    def rank(self, offers: Sequence[Offer], *, now_s: float) -> Ranking:
        """Order by the payer's rank."""
        order = sorted(range(len(offers)), key=lambda i: offers[i].payer_rank)
        views = tuple(_view(offers[i], now_s) for i in order)
        return Ranking(tuple(order), views, probe=False)

    def started(self, rail: str, *, now_s: float, last_resort: bool = False) -> Ticket | None:
        """Always let the call pass."""
        del last_resort
        self._tickets += 1
        return Ticket(self._tickets, rail, now_s)

    def hindrance(self, rail: str, *, now_s: float) -> str:
        """Know of none."""
        del rail, now_s
        return ""

    def finished(self, ticket: Ticket, outcome: RailOutcome, *, latency_s: float, now_s: float) -> None:
        """Learn nothing."""

    def corrected(self, ticket: Ticket, outcome: RailOutcome, *, now_s: float) -> None:
        """Learn nothing."""

    def avoid(self, rails: Iterable[str]) -> None:
        """Know of none."""

    def abandoned(self, ticket: Ticket) -> None:
        """Learn nothing."""


def _view(offer: Offer, now_s: float) -> View:
    del now_s
    return View(offer, drawn=1.0, score=1.0, believed=1.0, outcomes=0, unknown=0.0, hindrance="", probe=False)
