"""The capability graph: what people do, over what it needs; how it stands follows from how those stand.

    capability "pay by card"
        needs    ledger                    without it: as the ledger stands
        any_of   [north, south]            one is enough: all down is an outage, some down is degraded

A component's own standing is the worse of what was measured and what operators declare. What follows
from others is never worse than the worst of them. Written as TOML; `default()` is the graph as shipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from holdfast.base.errors import Refused
from holdfast.status.model import Component, Standing, rank, worst

COMPONENTS_MAX: Final = 2_000
"""Components of one graph: each is drawn and derived with every change."""


class GraphInvalid(Refused):
    """The capability graph is wrong: the message names the component and what to do."""

    code = "status_graph_invalid"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    component: tuple[Component, ...]


class Graph:
    """Components in the order in which they are shown, needs before nothing: cycles are refused.

    Raises: `GraphInvalid`.
    """

    def __init__(self, components: Iterable[Component]) -> None:
        self.components: dict[str, Component] = {}
        for one in components:
            if one.id in self.components:
                raise GraphInvalid(f"{one.id}: there are two components of this id. Rename one.")
            self.components[one.id] = one
        if not 0 < len(self.components) <= COMPONENTS_MAX:
            raise GraphInvalid(f"A graph has 1 to {COMPONENTS_MAX} components.")
        for one in self.components.values():
            for needed in _needs(one):
                if needed not in self.components:
                    raise GraphInvalid(f"{one.id}: it needs {needed!r}, which is not a component.")
        self.positions = {id_: place for place, id_ in enumerate(self.components, 1)}
        """Where each is shown, from 1."""
        self.order = self._sorted()
        """Ids, each after all that it needs."""

    def _sorted(self) -> tuple[str, ...]:
        done: dict[str, None] = {}
        for start in self.components:
            path: list[tuple[str, list[str]]] = [(start, list(_needs(self.components[start])))]
            on_path = {start}
            while path:
                here, left = path[-1]
                if here in done or not left:
                    done[here] = None
                    on_path.discard(here)
                    path.pop()
                    continue
                following = left.pop()
                if following in on_path:
                    raise GraphInvalid(f"{following}: it needs itself, by way of {here}. Break the circle.")
                if following not in done:
                    path.append((following, list(_needs(self.components[following]))))
                    on_path.add(following)
        return tuple(done)

    def standings(self, own: Mapping[str, Standing]) -> dict[str, Standing]:
        """Return how every component stands, from how some stand by themselves (the others well)."""
        found: dict[str, Standing] = {}
        for id_ in self.order:
            one = self.components[id_]
            all_of = [found[needed] for needed in one.needs]
            some = [_one_enough([found[needed] for needed in ids]) for ids in one.any_of if ids]
            found[id_] = worst(own.get(id_, "operational"), *all_of, *some)
        return found

    def roots(
        self, own: Mapping[str, Standing], found: Mapping[str, Standing], component: str
    ) -> tuple[str, ...]:
        """Return the components by which `component` does not stand well: the deepest, each once.

        `found`: what `standings` returned for `own`.
        """
        roots: dict[str, None] = {}
        seen: set[str] = set()
        todo = [component]
        while todo:
            here = todo.pop()
            if here in seen or found[here] == "operational":
                continue
            seen.add(here)
            if own.get(here, "operational") != "operational":
                roots[here] = None
            todo.extend(reversed(_needs(self.components[here])))
        return tuple(roots)

    def above(self, components: Iterable[str]) -> set[str]:
        """Return all that needs some components, directly or not, as one of several ways too."""
        found = set(components)
        for id_ in self.order:
            if any(needed in found for needed in _needs(self.components[id_])):
                found.add(id_)
        return found

    def match(self, node: Mapping[str, str]) -> str | None:
        """Return the component that a node of the measurements belongs to: the one that names most of it.

        A node `{"capability": "pay", "rail": "north"}` belongs to a component with `facts` of the same two,
        else to one with the most specific part of it (bank, then rail, then capability).
        """
        best: tuple[int, int, str] | None = None
        for one in self.components.values():
            if not one.facts or any(node.get(key) != value for key, value in one.facts.items()):
                continue
            depth = max(_DEPTH.get(key, 0) for key in one.facts)
            mark = (len(one.facts), depth, one.id)
            if best is None or mark[:2] > best[:2]:
                best = mark
        return None if best is None else best[2]


_DEPTH: Final = {"country": 0, "capability": 1, "rail": 2, "bank": 3}


def _needs(one: Component) -> tuple[str, ...]:
    return (*one.needs, *(needed for ids in one.any_of for needed in ids))


def _one_enough(standings: list[Standing]) -> Standing:
    """Return how what needs one of several stands: as the best of them, and degraded if some are out."""
    best = min(standings, key=rank)
    if best != "operational":
        return best
    out = worst(*standings)
    return "degraded_performance" if rank(out) > rank("degraded_performance") else "operational"


def read(path: Path) -> Graph:
    """Read a graph from a TOML file. Raises: `GraphInvalid`."""
    try:
        file = msgspec.toml.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise GraphInvalid(f"{path}: {error.strerror}.") from None
    except msgspec.DecodeError as error:
        raise GraphInvalid(f"{path}: {error}.") from None
    return Graph(file.component)


def default() -> Graph:
    """Return the graph of a wallet as shipped, with the sandbox's providers."""
    return read(Path(__file__).parent / "capabilities.toml")
