"""How long incidents last: a survival curve from those that were, the alike counting most.

`S(t)` is the share of incidents that last longer than t. The steps of a weighted Kaplan-Meier estimate
(1958), so that incidents which still go on count for as long as they have lasted, are spread by a logistic
kernel over the logarithm of time: durations are skewed to the right, and the curve must say something beyond
the longest one seen.

Weights shrink the alike towards the rest: an incident of the same component counts 1, one of the same cause
`SAME_CAUSE`, any other `OTHER`. Before anything happened there is a prior, worth `PRIOR` incidents of the
same component: log-normal with a median of 45 minutes and sigma 1.15, the shape that published histories of
outages have. What mass is left beyond the last end goes to the longest times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

SAME_CAUSE: Final = 0.3
OTHER: Final = 0.1
PRIOR: Final = 2.0
PAST_MAX: Final = 5_000
"""Incidents that are looked at, newest first."""
_PRIOR_MEDIAN_S: Final = 45 * 60.0
_PRIOR_SIGMA: Final = 1.15
_PRIOR_POINTS: Final = 15
_SCALE_MIN: Final = 0.12
"""Least width of the kernel, in units of the logarithm of time."""


@dataclass(frozen=True, slots=True)
class Past:
    """An incident that was, or (`ended` False) goes on: how long so far, seconds, and what it was of."""

    duration_s: float
    ended: bool
    component: str
    cause: str


class Curve:
    """The share of incidents that last longer than a time."""

    def __init__(self, times_s: NDArray[np.float64], masses: NDArray[np.float64], scale: float) -> None:
        self._logs = np.log(np.maximum(times_s, 1.0))
        self._masses = masses
        self._scale = scale

    def _longer(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return S at some times."""
        x = (np.log(np.maximum(times_s, 1e-3))[:, None] - self._logs) / self._scale
        return np.asarray((1.0 / (1.0 + np.exp(np.clip(x, -60, 60)))) @ self._masses)

    def quantiles(self, elapsed_s: float, shares: Sequence[float]) -> list[float]:
        """Return, for each share p, the r with 1 - S(t + r) / S(t) = p, seconds.

        So much later what has lasted t = `elapsed_s` is over with that chance.
        """
        here = float(self._longer(np.array([elapsed_s]))[0]) if elapsed_s > 0 else 1.0
        over = 1.0 - self._longer(elapsed_s + _SPANS_S) / max(here, 1e-300)
        return [float(r) for r in np.exp(np.interp(shares, over, np.log(_SPANS_S)))]


_SPANS_S: Final = np.geomspace(1.0, 400 * 86_400.0, 400)
"""Remaining times at which the curve is read: each 4 % more than the one before."""


def curve(past: Sequence[Past], component: str, cause: str) -> Curve:
    """Return the curve for an incident of `component` and `cause`."""
    newest = past[-PAST_MAX:]
    prior = _prior()
    times = np.array([max(1.0, one.duration_s) for one in newest] + list(prior))
    ended = np.array([one.ended for one in newest] + [True] * len(prior))
    weights = np.array([_weight(one, component, cause) for one in newest] + [PRIOR / len(prior)] * len(prior))
    masses = _steps(times, ended, weights)
    some = masses > 0
    effective = float(weights.sum() ** 2 / (weights @ weights))
    mean = float(masses @ np.log(times))
    spread = math.sqrt(max(0.01, float(masses @ (np.log(times) - mean) ** 2)))
    # Silverman's rule; the logistic of scale s has the variance (pi s)^2 / 3.
    scale = max(_SCALE_MIN, 0.9 * spread * effective**-0.2 * math.sqrt(3) / math.pi)
    return Curve(times[some], masses[some], scale)


def _weight(one: Past, component: str, cause: str) -> float:
    if one.component == component:
        return 1.0
    return SAME_CAUSE if one.cause == cause else OTHER


def _prior() -> list[float]:
    """Return durations that stand for the prior: its quantiles in the middle of equal shares."""
    shares = [(number + 0.5) / _PRIOR_POINTS for number in range(_PRIOR_POINTS)]
    return [_PRIOR_MEDIAN_S * math.exp(_PRIOR_SIGMA * NormalDist().inv_cdf(share)) for share in shares]


def _steps(
    times: NDArray[np.float64], ended: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mass of each duration in the weighted Kaplan-Meier estimate, summing to 1."""
    order = np.lexsort((~ended, times))  # at the same time, what ended comes before what goes on
    at_risk = np.cumsum(weights[order][::-1])[::-1]
    shares = np.where(ended[order], weights[order] / at_risk, 0.0)
    left = np.cumprod(1.0 - shares)
    before = np.concatenate(([1.0], left[:-1]))
    masses = np.zeros_like(times)
    masses[order] = before * shares
    rest = 1.0 - masses.sum()
    if rest > 1e-9:
        masses[order[-1]] += rest
    return masses
