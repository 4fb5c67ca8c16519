"""A success rate that may change without warning, and what is believed of it.

A rail works at some rate, until something breaks or mends and it works at another. Nobody says when. So the
belief is a mixture over *when the present regime began*: each run is one hypothesis ("since the outcome
number `born`") with its own counts, weighted by how well it has foretold what came. This is Bayesian on-line
change-point detection (Adams and MacKay, arXiv 0710.3742) with beta-Bernoulli runs; drawing a rate from the
whole mixture and acting on the draw is Thompson sampling that forgets at once after a real change and hardly
at all while nothing changes. A fixed window or discount must choose one of the two.

A rail that is not used is not thereby known: with every bit of hazard that passes, weight moves to "it has
changed since the last outcome", which is the prior. So a rail that was given up is tried again, ever more
likely.

The memory is bounded: runs are kept densely near the present and ever more thinly towards the past, because
whether a regime began 1000 or 1100 outcomes ago makes no difference to anybody.
"""

from __future__ import annotations

from itertools import pairwise
from math import exp, sqrt
from random import Random

_NORMAL_FROM_COUNT = 9.0
"""From so many successes and failures on, a normal draw is as good as a beta draw, and four times as fast."""

_ROUNDING = 1e-9


class ChangingRate:
    """The belief about one rate.

    Time is cumulative hazard: the expected number of changes so far, never going back.
    """

    __slots__ = (
        "_a",
        "_b",
        "_born",
        "_f",
        "_floor",
        "_fresh",
        "_mean",
        "_now",
        "_recent",
        "_runs_max",
        "_s",
        "_w",
        "observed",
    )

    def __init__(
        self, *, first: tuple[float, float], changed: tuple[float, float], runs_max: int, recent: int
    ) -> None:
        """Begin with `first`, as successes and failures; `changed` is what to expect after a change.

        At most `runs_max` runs are kept, of which the `recent` youngest never merge.
        """
        self._a, self._b = changed
        self._runs_max = runs_max
        self._recent = recent
        self._w = [1.0]
        self._s = [first[0]]
        self._f = [first[1]]
        self._born = [0]
        self._fresh = 0.0
        self._floor = min(first[1], changed[1])
        self._now = 0.0
        self._mean = -1.0  # of the runs; below 0: to be computed
        self.observed = 0
        """How many outcomes have been counted."""

    def _age(self, hazard: float) -> None:
        passed = hazard - self._now
        if passed > 0.0:
            self._fresh = 1.0 - (1.0 - self._fresh) * exp(-passed)
            self._now = hazard

    def fresh(self, hazard: float) -> float:
        """Return the probability, 0 to 1, that the rate has changed since the last outcome."""
        self._age(hazard)
        return self._fresh

    def observe(self, success: bool, hazard: float) -> int:
        """Count an outcome; return its number, with which it can be corrected."""
        self._age(hazard)
        weights, s, f = self._w, self._s, self._f
        counts, other = (s, f) if success else (f, s)
        keep = 1.0 - self._fresh
        prior = self._a if success else self._b
        total = born_now = self._fresh * prior / (self._a + self._b)
        for i, count in enumerate(counts):
            weights[i] = weight = weights[i] * keep * count / (count + other[i])
            counts[i] = count + 1.0
            total += weight
        weights.append(born_now)
        s.append(self._a + success)
        f.append(self._b + (not success))
        self._born.append(self.observed)
        self._w = [weight / total for weight in weights]
        self._fresh = 0.0
        self._mean = -1.0
        self.observed += 1
        if len(weights) > self._runs_max:
            self._merge()
        return self.observed - 1

    def forgive(self, number: int, *, success: bool) -> None:
        """The failure `number` was none: count it as a success or, with `success` False, not at all.

        Within a run the order of outcomes does not matter, so its weight changes by the ratio of the two
        likelihoods exactly. Runs that began after the outcome keep their share: it says nothing about them.
        """
        weights, s, f = self._w, self._s, self._f
        self._mean = -1.0
        touched = [
            i for i, born in enumerate(self._born) if born <= number and f[i] - 1.0 >= self._floor - _ROUNDING
        ]
        before = sum(weights[i] for i in touched)
        for i in touched:
            f[i] -= 1.0
            weights[i] *= (s[i] if success else s[i] + f[i]) / f[i]
            s[i] += success
        after = sum(weights[i] for i in touched)
        if after <= 0.0:
            return  # what came since has ruled these runs out, down to a weight of nothing
        for i in touched:
            weights[i] *= before / after

    def draw(self, random: Random, hazard: float) -> float:
        """Draw a rate from the belief: near 0 to 1 (a normal draw may stray outside by a little)."""
        self._age(hazard)
        left = random.random() - self._fresh
        if left < 0.0:
            return random.betavariate(self._a, self._b)
        left /= 1.0 - self._fresh
        run = -1
        for weight in self._w:
            run += 1
            left -= weight
            if left < 0.0:
                break
        s, f = self._s[run], self._f[run]
        if s < _NORMAL_FROM_COUNT or f < _NORMAL_FROM_COUNT:
            return random.betavariate(s, f)
        n = s + f
        return s / n + random.gauss(0.0, 1.0) * sqrt(s * f / (n + 1.0)) / n

    def mean(self, hazard: float) -> float:
        """Return the believed rate, 0 to 1."""
        self._age(hazard)
        if self._mean < 0.0:
            self._mean = sum([w * s / (s + f) for w, s, f in zip(self._w, self._s, self._f, strict=True)])
        return self._fresh * self._a / (self._a + self._b) + (1.0 - self._fresh) * self._mean

    def spread(self, hazard: float) -> float:
        """Return the standard deviation of the belief."""
        mean = self.mean(hazard)
        square = self._fresh * _second_moment(self._a, self._b)
        keep = 1.0 - self._fresh
        square += keep * sum(
            w * _second_moment(s, f) for w, s, f in zip(self._w, self._s, self._f, strict=True)
        )
        return sqrt(max(square - mean * mean, 0.0))

    def changed_within(self, outcomes: int, hazard: float) -> float:
        """Return the probability that the present regime began no more than `outcomes` outcomes ago."""
        self._age(hazard)
        first = self.observed - outcomes
        return self._fresh + (1.0 - self._fresh) * sum(
            w for w, born in zip(self._w, self._born, strict=True) if born >= first
        )

    def _merge(self) -> None:
        """Merge the two old neighbours that differ least in age; the likelier one's counts stand for both."""
        s, f, w = self._s, self._f, self._w
        ages = [a + b for a, b in zip(s, f, strict=True)][: len(s) - self._recent]
        ratios = [older / younger for older, younger in pairwise(ages)]
        best = ratios.index(min(ratios)) if ratios else 0
        lesser = best + 1 if w[best] >= w[best + 1] else best
        w[best + (lesser == best)] += w[lesser]
        for column in (s, f, w):
            del column[lesser]
        del self._born[lesser]


def _second_moment(a: float, b: float) -> float:
    """Return the mean of the square of a beta(a, b) variable."""
    n = a + b
    return a * (a + 1.0) / (n * (n + 1.0))
