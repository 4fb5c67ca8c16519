"""The estimate that is published: when it is over with a chance of one half, and of four fifths.

It is never "mean minus elapsed": it is conditional on what has passed, and given as an interval, since the
point is poor whatever one does. It is revised only when something changed (another stage, or the time by
which it should have been over has passed), because changes that mean nothing cost trust.

**Kept honest** by its own record (Kuleshov, Fenner and Ermon 2018): of each estimate whose end is known, the
chance is computed that it gave to what then happened. Were the estimates right, these chances would be
spread evenly. For 80 % now, the chance is taken below which 80 % of the past ones lay, shrunk towards 80 %
itself while there are few.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from holdfast.status.estimate.survival import Past, curve

HALF: Final = 0.5
MOST: Final = 0.8
"""The chances of the interval's ends. The second is the one that is stood by."""
_SHRINK: Final = 20.0
"""Past estimates that the stated chance itself is worth."""
_CHANCE_MAX: Final = 0.98
RECORD_MAX: Final = 500
"""Past estimates that are looked at, newest last: what was long ago says little of now."""


SHARES: Final = tuple(round(0.05 * number, 2) for number in range(1, 20))
"""Chances at which the whole curve of an estimate is kept, so that it can be judged later."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Over within `half_s` seconds with a chance of 50 %, within `most_s` with one of 80 %.

    Counted from when it was made. `alike`: incidents of the same component, that are over, on which it rests.
    `curve_s`: the seconds for each of `SHARES`, as they were before the chances were corrected by the record.
    """

    half_s: float
    most_s: float
    alike: int
    curve_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """How past estimates did: how often it was over by the time given with 50 %, and with 80 %."""

    count: int
    half: float
    most: float


def estimate(
    past: Sequence[Past], component: str, cause: str, elapsed_s: float, chances: Sequence[float] = ()
) -> Estimate:
    """Estimate the remaining time of an incident that has lasted `elapsed_s` seconds.

    `chances`: what past estimates gave to what then happened (`chance_of`), oldest first.
    """
    newest = list(chances[-RECORD_MAX:])
    wanted = [_honest(share, newest) for share in (HALF, MOST)]
    shape = curve(past, component, cause)
    half_s, most_s, *whole = shape.quantiles(elapsed_s, (*wanted, *SHARES))
    alike = sum(one.component == component and one.ended for one in past)
    return Estimate(half_s, max(half_s, most_s), alike, tuple(round(each, 1) for each in whole))


def chance_of(made: Estimate, real_s: float) -> float:
    """Return the chance that an estimate gave to an end as early as the real one.

    `real_s`: how long after it was made the end came.
    """
    return float(np.interp(real_s, made.curve_s, SHARES, left=0.0, right=1.0))


def record(made: Iterable[tuple[Estimate, float]]) -> Record:
    """Return how estimates did, each with the seconds until the real end."""
    pairs = list(made)
    if not pairs:
        return Record(0, 0.0, 0.0)
    half = sum(real_s <= one.half_s for one, real_s in pairs) / len(pairs)
    most = sum(real_s <= one.most_s for one, real_s in pairs) / len(pairs)
    return Record(len(pairs), half, most)


def _honest(share: float, chances: list[float]) -> float:
    if not chances:
        return share
    seen = float(np.quantile(np.array(chances), share))
    return min(_CHANCE_MAX, (len(chances) * seen + _SHRINK * share) / (len(chances) + _SHRINK))
