"""Places of the measurements: a leaf is one capability on one rail with one bank in one country.

A node leaves some of them open (`*`): `(*, north, *, *)` is all that goes by the rail north. What is not
known of a leaf (an empty text) makes no node.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

Leaf = tuple[str, str, str, str]
"""Capability, rail, bank, country."""
Node = tuple[str, str, str, str]

ANY: Final = "*"
DIMENSIONS: Final = ("capability", "rail", "bank", "country")
_SHAPES: Final = (
    (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1),
    (1, 1, 0, 0), (0, 1, 1, 0), (1, 1, 1, 0), (1, 1, 1, 1),
)  # fmt: skip
"""Which dimensions a node names. Not all are of use: a bank in one country says no more than the bank."""


@lru_cache(20_000)
def nodes_of(leaf: Leaf) -> tuple[Node, ...]:
    """Return the nodes above a leaf, itself among them."""
    found: dict[Node, None] = {}
    for shape in _SHAPES:
        if all(leaf[place] or not named for place, named in enumerate(shape)):
            node = tuple(leaf[place] if named else ANY for place, named in enumerate(shape))
            found[node] = None  # type: ignore[index]
    named = tuple(each or ANY for each in leaf)
    found[named] = None  # type: ignore[index]
    return tuple(found)


def covers(node: Node, leaf: Node) -> bool:
    """Tell whether all of `leaf` lies under `node`."""
    return all(of in (ANY, each) for of, each in zip(node, leaf, strict=True))


def meets(one: Node, other: Node) -> bool:
    """Tell whether some leaf could lie under both."""
    return all(ANY in pair or pair[0] == pair[1] for pair in zip(one, other, strict=True))


def names(node: Node) -> dict[str, str]:
    """Return what a node names, by dimension."""
    return dict(_named(node))


def _named(node: Node) -> Iterator[tuple[str, str]]:
    return (pair for pair in zip(DIMENSIONS, node, strict=True) if pair[1] != ANY)


def depth(node: Node) -> int:
    """Return how many dimensions a node names."""
    return sum(each != ANY for each in node)
